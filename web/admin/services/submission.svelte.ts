// One press of "Save": busy while it runs, then either nothing, or a code for the form and codes for its fields.

import { RestError } from '../../core/src/rest';
import { faultOf } from './collection.svelte';

/** Refusals that are about one field, and are shown there. */
const FIELD_OF: Readonly<Record<string, string>> = { name_taken: 'name', login_taken: 'login' };

export class Submission {
  busy = $state(false);
  fault = $state<string | null>(null);
  fields = $state.raw<Readonly<Record<string, string>>>({});
  /** The server's own words, by field: where a code alone does not say where. */
  messages = $state.raw<Readonly<Record<string, string>>>({});

  /** True when it went through. */
  async run(work: () => Promise<void>): Promise<boolean> {
    if (this.busy) return false;
    this.busy = true;
    this.fault = null;
    this.fields = {};
    try {
      await work();
      return true;
    } catch (cause) {
      const code = faultOf(cause);
      const field = FIELD_OF[code];
      this.fault = field === undefined ? code : null;
      if (field !== undefined) this.fields = { [field]: code };
      else if (cause instanceof RestError) {
        this.fields = Object.fromEntries(cause.fields.map((field) => [field.loc, field.code]));
        this.messages = Object.fromEntries(cause.fields.map((field) => [field.loc, field.message]));
      }
      return false;
    } finally {
      this.busy = false;
    }
  }

  /** Faults that the page found before asking. True when there are none. */
  check(fields: Readonly<Record<string, string>>): boolean {
    this.fault = null;
    this.fields = fields;
    return Object.keys(fields).length === 0;
  }
}
