import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from '@jest/globals';

const root = path.resolve(import.meta.dirname, '..');
const page = readFileSync(path.join(root, 'docs/security-model.md'), 'utf8');
/** The last number of the list of attacks. */
const attacksMax = 72;

/** Rows of the first table after a heading, without its head. */
function rowsOf(heading: string): string[][] {
  const lines = (page.split(`## ${heading}\n`)[1] ?? '').split('\n## ')[0]?.split('\n') ?? [];
  const rows = lines.filter((line) => /^\| \d+ \|/.test(line));
  return rows.map((line) => line.slice(2, -2).split(' | '));
}

/** Attacks that several files try. */
const shared = 'crds/src/policies/testing/pod-attacks.ts';

/** Numbers of attacks in the names of the tests of a file. */
function attacksIn(file: string): Set<number> {
  const own = readFileSync(path.join(root, file), 'utf8');
  const text = own.includes('/pod-attacks.ts') ? own + readFileSync(path.join(root, shared), 'utf8') : own;
  const named = [...text.matchAll(/threats? (\d+(?:(?:, ?| and )\d+)*)/g)];
  return new Set(named.flatMap(([, numbers = '']) => numbers.match(/\d+/g)?.map(Number) ?? []));
}

const tried = rowsOf('Attacks that a test tries').map(([number, , , tests = '']) => ({
  number: Number(number),
  files: [...tests.matchAll(/`([^`]+)`/g)].map(([, file = '']) => file),
}));
const untried = rowsOf('Attacks that no test tries yet').map(([number]) => Number(number));

test('every attack is in one of the two tables', () => {
  const all = [...tried.map(({ number }) => number), ...untried].sort((a, b) => a - b);
  expect(all).toEqual(Array.from({ length: attacksMax }, (_, at) => at + 1));
});

test.each(tried)('a test tries attack $number in each file that the table names', ({ number, files }) => {
  expect(files.length).toBeGreaterThan(0);
  for (const file of files) expect([file, attacksIn(file).has(number)]).toEqual([file, true]);
});

test('every attack that a test names is in the table of those that are tried', () => {
  const files = globSync(
    '{common,crds,proto,xtreemfs,selector,operator,nodeagent,cli,charts,e2e}/**/*.{test,envtest,e2e,cases}.ts',
    {
      cwd: root,
    },
  );
  expect(files.length).toBeGreaterThan(100);
  const known = new Set(tried.map(({ number }) => number));
  const missing = files.flatMap((file) =>
    [...attacksIn(file)].filter((number) => !known.has(number)).map((number) => `${number} in ${file}`),
  );
  expect(missing).toEqual([]);
});
