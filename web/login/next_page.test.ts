import { expect, it } from 'vitest';
import { nextPage } from './next_page';

const ORIGIN = 'https://cc.example';

it('follows a path of this origin', () => {
  expect(nextPage('?next=/agent/history?q=1%23x', ORIGIN, 'agent')).toBe('/agent/history?q=1#x');
});

for (const next of ['//evil.example', '/\\evil.example', 'https://evil.example/', 'javascript:alert(1)', '/%09/evil.example', 'agent', '/a\\b', '']) {
  it(`refuses ${JSON.stringify(next)}`, () => {
    expect(nextPage(`?next=${next}`, ORIGIN, 'agent')).toBe('/agent');
  });
}

it('does not return to the sign-in page, and knows each role’s home', () => {
  expect(nextPage('?next=/login', ORIGIN, 'admin')).toBe('/admin');
  expect(nextPage('', ORIGIN, 'supervisor')).toBe('/admin');
  expect(nextPage('', ORIGIN, 'agent')).toBe('/agent');
});
