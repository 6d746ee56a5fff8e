// A field's fault in words: the page's own codes, and those the server takes from its models.

import type { I18n } from '../../core/src/i18n';
import type { Limits } from '../state/forms';
import type { AdminKey } from '../texts';

export function fieldText(i18n: I18n<AdminKey>, code: string | undefined, limits?: Limits): string | undefined {
  switch (code) {
    case undefined:
      return undefined;
    case 'required':
    case 'missing':
    case 'string_too_short':
    case 'too_short':
      return i18n.t('field.required');
    case 'out_of_range':
    case 'greater_than_equal':
    case 'less_than_equal':
    case 'int_parsing':
    case 'int_from_float':
      return limits === undefined ? i18n.t('field.out_of_range') : i18n.t('field.between', { ...limits });
    case 'login_pattern':
    case 'string_pattern_mismatch':
      return i18n.t('field.login_pattern');
    case 'string_too_long':
      return i18n.t('field.too_long');
    case 'login_taken':
    case 'name_taken':
      return i18n.error(code);
    default:
      return i18n.t('field.invalid');
  }
}
