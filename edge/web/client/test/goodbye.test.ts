import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { comeBack } from '../src/index.js';

const SOURCE = readFileSync(new URL('../../../src/goodbye.rs', import.meta.url), 'utf8');

test('every goodbye of the server is obeyed', () => {
  const goodbyes = [...SOURCE.matchAll(/pub const (\w+): Goodbye =\s+goodbye\((\d+), "[^"]*", (\w+), /g)];
  const count = Number(/pub const ALL: \[Goodbye; (\d+)\]/.exec(SOURCE)?.[1]);
  expect(goodbyes, 'the pattern finds them all').toHaveLength(count);
  for (const [, name, code, expected] of goodbyes) {
    const said = comeBack(Number(code), name!.startsWith('MOBILE_'));
    const meant = { No: ['no'], NewCredential: ['credential'], Yes: ['yes', 'later'] }[expected!];
    expect(meant, `${name} ${code}`).toContain(said);
  }
});

test('what the server does not say', () => {
  // No close frame at all; a proxy's normal end; an application's own code.
  expect([1006, 1000, 1005, 4500].map((code) => comeBack(code))).toEqual(['yes', 'yes', 'yes', 'yes']);
  expect(comeBack(1013)).toBe('later');
});
