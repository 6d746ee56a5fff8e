import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const css = readFileSync(new URL('../ui/tokens.css', import.meta.url), 'utf8');

function tokens(selector: string): Record<string, string> {
  const block = css.slice(css.indexOf(`${selector} {`)).split('}')[0] ?? '';
  return Object.fromEntries([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6})/g)].map(([, name, value]) => [name, value]));
}

/** https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio */
function contrast(first: string, second: string): number {
  const luminance = (colour: string) =>
    [0.2126, 0.7152, 0.0722].reduce((sum, weight, at) => {
      const channel = parseInt(colour.slice(1 + at * 2, 3 + at * 2), 16) / 255;
      return sum + weight * (channel <= 0.03928 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
    }, 0);
  const [high = 0, low = 0] = [luminance(first), luminance(second)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}

describe.each([':root', ":root[data-theme='dark']"])('%s', (selector) => {
  const theme = tokens(selector);
  const ratio = (first: string, second: string) => contrast(theme[first] ?? '', theme[second] ?? '');

  it.each(['ink', 'ink-2', 'accent', 'ready', 'call', 'ringing', 'wrap-up', 'break', 'danger'])('text in %s', (name) => {
    for (const ground of ['canvas', 'surface', 'sunken']) expect(ratio(name, ground), ground).toBeGreaterThanOrEqual(4.5);
  });

  it('text on buttons', () => {
    expect(ratio('on-accent', 'accent')).toBeGreaterThanOrEqual(4.5);
    expect(ratio('on-danger', 'danger')).toBeGreaterThanOrEqual(4.5);
  });

  it('borders of controls and the focus ring', () => {
    for (const ground of ['canvas', 'surface']) {
      expect(ratio('border', ground)).toBeGreaterThanOrEqual(3);
      expect(ratio('focus', ground)).toBeGreaterThanOrEqual(3);
    }
  });
});

it('both ways into the dark theme have the same colours', () => {
  expect(tokens(":root:not([data-theme='light'])")).toEqual(tokens(":root[data-theme='dark']"));
});
