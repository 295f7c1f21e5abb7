import { expect, test } from '@jest/globals';
import { type AuditRecord, JsonAuditLog } from './audit.ts';
import { VirtualClock } from './clock.ts';

const record: AuditRecord = {
  who: { issuer: 'https://id.example.org', subject: '42' },
  what: 'token.mint',
  on: { VirtualOrganization: 'physics' },
  outcome: 'Refused',
  why: 'MemberSuspended',
  policy: 'vo/membership',
};

function written(...records: AuditRecord[]): string[] {
  const lines: string[] = [];
  const log = new JsonAuditLog(new VirtualClock(), { write: (line) => lines.push(line) });
  for (const each of records) log.record(each);
  return lines;
}

test('writes one line of JSON for each decision, marked as audit', () => {
  const [line = ''] = written(record);
  expect(line.endsWith('\n')).toBe(true);
  expect(JSON.parse(line)).toEqual({ time: '2026-01-01T00:00:00.000Z', audit: true, ...record });
});

test('a record can not break out of its line, steer a terminal or fill the disk', () => {
  const [line = ''] = written({ ...record, who: `a\n{"audit":true}\u001b[31m\u202e${'x'.repeat(100_000)}` });
  expect(line.split('\n')).toHaveLength(2);
  expect(line).not.toMatch(/\\u001b|\u202e/);
  expect(line.length).toBeLessThan(1000);
});

test.each([
  ['a JWT', 'refused eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln today'],
  ['a bearer token', 'header was Bearer abc.def'],
  ['a private key', '-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----'],
  ['a refresh token', 'got xosr_AAAA.BBBB'],
])('takes %s out of a message that quotes it (threat 65)', (_, message) => {
  const [line = ''] = written({ ...record, message });
  expect(line).toContain('[redacted]');
  expect(line).not.toMatch(/eyJ|abc\.def|MHcCAQ|BBBB/);
});
