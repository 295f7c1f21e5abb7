/** Whether the policies know every field of a pod that the API server knows: each is judged, free for a reason, or refused. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import {
  containerFields,
  containerSecurityFields,
  type FieldTable,
  podFields,
  podSecurityFields,
  projectionFields,
  smallFields,
  volumeFields,
} from './pod-fields.ts';
import { aPod, type Organization, pods, refusal, startOrganization } from './testing/organization.ts';

jest.setTimeout(60_000);

interface Schema {
  readonly type?: string;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly $ref?: string;
  readonly allOf?: readonly Schema[];
}

let organization: Organization;
let schemas: Readonly<Record<string, Schema>>;
const core = (name: string): Schema => schemas[`io.k8s.api.core.v1.${name}`]!;

beforeAll(async () => {
  organization = await startOrganization({ name: 'fields' });
  const document = await organization.admin.json('GET', '/openapi/v3/api/v1');
  ({ schemas } = document.components as { schemas: Record<string, Schema> });
}, 120_000);
afterAll(async () => organization.stop());

describe('every field that the API server knows is judged, free for a reason, or refused:', () => {
  test.each<[string, FieldTable]>([
    ['PodSpec', podFields],
    ['Container', containerFields],
    ['EphemeralContainer', containerFields],
    ['PodSecurityContext', podSecurityFields],
    ['SecurityContext', containerSecurityFields],
    ['Volume', volumeFields],
    ['VolumeProjection', projectionFields],
  ])('%s', (name, { free, judged, refused }) => {
    const known = [...Object.keys(free), ...Object.keys(judged), ...Object.keys(refused)];
    expect(new Set(known).size).toBe(known.length);
    const strange = Object.keys(core(name).properties ?? {}).filter((field) => !known.includes(field));
    expect(strange).toEqual([]);
  });

  test.each(Object.entries(smallFields))('%s', (name, { allowed, refused }) => {
    const fields = Object.keys(schemas[name]?.properties ?? {});
    expect(fields.length).toBeGreaterThan(0);
    expect(fields.filter((field) => ![...allowed, ...refused].includes(field))).toEqual([]);
  });
});

/** The smallest value that a schema lets through. */
function sampleOf(schema: Schema): unknown {
  const reference = schema.$ref ?? schema.allOf?.[0]?.$ref;
  if (reference !== undefined) return sampleOf(schemas[reference.split('/').at(-1)!]!);
  if (schema.type === 'array') return [sampleOf(schema.items ?? {})];
  if (schema.type === 'string') return 'x';
  if (schema.type === 'boolean') return true;
  if (schema.type === 'integer' || schema.type === 'number') return 1;
  const wanted = Object.entries(schema.properties ?? {}).filter(([name]) => schema.required?.includes(name));
  return Object.fromEntries(wanted.map(([name, field]) => [name, sampleOf(field)]));
}

test('threat 2: every kind of volume that the API server knows is refused, but for the listed ones', async () => {
  const kinds = Object.entries(core('Volume').properties ?? {}).filter(([kind]) => kind !== 'name');
  const open: string[] = [];
  const byPolicy: string[] = [];
  for (const [kind, schema] of kinds) {
    const pod = aPod('x', { volumes: [{ name: 'v', [kind]: sampleOf(schema) }] });
    const answer = await refusal(organization.as('alice'), pods(), pod);
    if (answer === '') open.push(kind);
    if (answer.includes(`volumes: v: kind ${kind}`)) byPolicy.push(kind);
  }
  expect(open.sort()).toEqual(['downwardAPI', 'emptyDir', 'persistentVolumeClaim']);
  // The others don't reach the policy: the smallest of their kind isn't valid.
  expect(byPolicy.length).toBeGreaterThan(12);
});

test('threat 7: whatever field a member adds to a pod, it is refused or leaves the identity as it is', async () => {
  const fields = Object.entries(core('PodSpec').properties ?? {}).filter(([name]) => name !== 'containers');
  for (const [name, schema] of fields) {
    const body = aPod('x', { [name]: sampleOf(schema) });
    const stored = await organization
      .as('bob')
      .json('POST', `${pods()}?dryRun=All`, { body })
      .catch(() => undefined);
    if (stored === undefined) continue;
    expect(stored.spec).toMatchObject({
      serviceAccountName: expect.stringMatching(/^u-bob-/),
      automountServiceAccountToken: false,
      securityContext: { runAsUser: 2_013_267_001, runAsGroup: 2_013_265_920, supplementalGroupsPolicy: 'Strict' },
    });
  }
});
