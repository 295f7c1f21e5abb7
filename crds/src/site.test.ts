import { describe, expect, test } from '@jest/globals';
import { manifestSchema } from './kind.ts';
import { kinds } from './kinds.ts';
import { siteDefinition } from './site.ts';
import { readSamples } from './testing/samples.ts';

describe('samples', () => {
  test.each(readSamples())('%s is valid', (_, object) => {
    const kind = kinds.find((candidate) => candidate.kind === object.kind);
    expect(kind).toBeDefined();
    expect(manifestSchema(kind!).safeParse(object)).toMatchObject({ success: true });
  });

  test.each(kinds.map((kind) => kind.singular))('%s has a minimal and a full one', (singular) => {
    const names = readSamples().map(([name]) => name);
    expect(names).toEqual(expect.arrayContaining([`${singular}-minimal.yaml`, `${singular}-full.yaml`]));
  });
});

describe('a Site', () => {
  const issuesOf = (spec: unknown): string[] =>
    siteDefinition.spec.safeParse(spec).error?.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`) ?? [];

  test('gets its defaults', () => {
    expect(siteDefinition.spec.parse({ type: 'Local', local: {} })).toEqual({
      type: 'Local',
      local: {
        attributes: {},
        acceptedVirtualOrganizations: [],
        isolation: ['Namespace'],
        kubernetesLogin: true,
        networkIsolation: 'Offered',
        identityProviders: [],
        reservedIds: [],
      },
    });
  });

  test.each<[string, unknown, string]>([
    ['a variant that it is not', { type: 'Local', local: {}, peer: {} }, 'Unrecognized key: "peer"'],
    ['a missing variant', { type: 'Peer' }, 'peer: '],
    ['an unknown type', { type: 'Remote' }, 'type: '],
    [
      'a virtual organization twice',
      { type: 'Local', local: { acceptedVirtualOrganizations: [{ name: 'a' }, { name: 'a' }] } },
      'local.acceptedVirtualOrganizations: has the same name twice',
    ],
    [
      'a limit that is no quantity',
      { type: 'Local', local: { acceptedVirtualOrganizations: [{ name: 'a', limits: { cpu: 'many' } }] } },
      'local.acceptedVirtualOrganizations.0.limits.cpu',
    ],
    ['the same isolation twice', { type: 'Local', local: { isolation: ['Sandbox', 'Sandbox'] } }, 'has a value twice'],
  ])('refuses %s', (_, spec, message) => {
    expect(issuesOf(spec).join('\n')).toContain(message);
  });
});
