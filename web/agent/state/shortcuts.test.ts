import { expect, it } from 'vitest';
import { commandOf, type Press } from './shortcuts';

const press = (over: Partial<Press>): Press => ({
  code: 'KeyA', altKey: false, ctrlKey: false, metaKey: false, shiftKey: false, repeat: false, ...over,
});

it('reads the physical key with Alt', () => {
  expect(commandOf(press({ altKey: true }), true)).toBe('accept');
  expect(commandOf(press({ altKey: true, code: 'Slash' }), true)).toBe('help');
});

it('leaves AltGr, repeats and plain letters alone', () => {
  expect(commandOf(press({ altKey: true, ctrlKey: true }), true)).toBeNull();
  expect(commandOf(press({ altKey: true, repeat: true }), true)).toBeNull();
  expect(commandOf(press({}), true)).toBeNull();
});

it('can be switched off, but the palette stays', () => {
  expect(commandOf(press({ altKey: true }), false)).toBeNull();
  expect(commandOf(press({ code: 'KeyK', metaKey: true }), false)).toBe('palette');
  expect(commandOf(press({ code: 'KeyK', ctrlKey: true }), false)).toBe('palette');
});
