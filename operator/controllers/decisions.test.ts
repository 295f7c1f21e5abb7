import { expect, test } from '@jest/globals';
import type { AuditRecord } from '#common/audit.ts';
import { changedByAnnotation } from '#crds/policies/changes.ts';
import type { KubeObject, Stored } from '#runtime/types.ts';
import { Decisions } from './decisions.ts';

function anObject(generation: number, by?: string): Stored<KubeObject> {
  const annotations = by === undefined ? {} : { [changedByAnnotation]: by };
  const metadata = { name: 'a', uid: 'uid-a', resourceVersion: '1', creationTimestamp: '', generation, annotations };
  return { apiVersion: 'v1', kind: 'Any', metadata };
}

function aLog(): { decisions: Decisions; records: AuditRecord[] } {
  const records: AuditRecord[] = [];
  return { records, decisions: new Decisions({ record: (record) => void records.push(record) }, 'system') };
}

test.each([
  ['one change', 3, 'alice', { actor: { who: 'alice' }, isNew: false }],
  ['a new object', 1, 'alice', { actor: { who: 'alice' }, isNew: true }],
  ['no change', 2, 'alice', undefined],
  ['a change by the operator', 3, 'system:serviceaccount:system:xtreemos', undefined],
] as const)('%s is laid at whoever made it', (name, generation, by, expected) => {
  const observed = name === 'a new object' ? undefined : 2;
  expect(aLog().decisions.changeOf(anObject(generation, by), observed)).toEqual(expected);
});

test.each([
  ['several changes', 4, 'alice', 'changed 2 times'],
  ['a change that was not stamped', 3, undefined, 'audit log of the API server'],
] as const)('%s are laid at nobody, and it is said why', (_, generation, by, note) => {
  const change = aLog().decisions.changeOf(anObject(generation, by), 2);
  expect(change?.actor).toEqual({ who: 'unknown', note: expect.stringContaining(note) });
});

test('a change is looked at once, however late the status shows it', () => {
  const { decisions } = aLog();
  expect(decisions.changeOf(anObject(3, 'alice'), 2)).toBeDefined();
  expect(decisions.changeOf(anObject(3, 'alice'), 2)).toBeUndefined();
});

test('what the operator changes in between is not laid at whoever comes next', () => {
  const { decisions } = aLog();
  decisions.changeOf(anObject(1, 'alice'), undefined);
  decisions.noteOwnChange(anObject(1, 'alice'), anObject(2));
  expect(decisions.changeOf(anObject(3, 'bob'), undefined)?.actor).toEqual({ who: 'bob' });
});

test('a change of somebody else that came with one of our own is not lost', () => {
  const { decisions } = aLog();
  decisions.changeOf(anObject(1, 'alice'), undefined);
  decisions.noteOwnChange(anObject(1, 'alice'), anObject(3, 'bob'));
  expect(decisions.changeOf(anObject(3, 'bob'), undefined)?.actor.who).toBe('unknown');
});

test('what was decided last is recorded once, and again after something else', () => {
  const { decisions, records } = aLog();
  const record = (why: string): void =>
    decisions.record(anObject(1), { who: 'operator', what: 'a.decide', outcome: 'Allowed', why });
  for (const why of ['Cut', 'Cut', 'Accepted', 'Cut']) record(why);
  expect(records.map(({ why }) => why)).toEqual(['Cut', 'Accepted', 'Cut']);
});

test('what was decided last is not recorded again by a look that knows less of who it was', () => {
  const { decisions, records } = aLog();
  const record = (who: string, note?: string): void =>
    decisions.record(anObject(1), { who, what: 'a.decide', outcome: 'Refused', why: 'Withdrawn' }, note);
  record('bob');
  record('unknown', 'It was changed 2 times.');
  expect(records.map(({ who }) => who)).toEqual(['bob']);
});
