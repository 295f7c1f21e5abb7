/** The guide to virtual organizations, typed as it stands by the owner of the site, who is an administrator too. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Desk, stepsUnder } from './desk.ts';
import type { Step } from './guide.ts';

jest.setTimeout(180_000);

let desk: Desk;

beforeAll(async () => {
  desk = await Desk.open();
  await desk.install();
}, 300_000);

afterAll(async () => {
  await desk.close();
});

const under = (heading: string): Step[] => stepsUnder('docs/virtual-organizations.md', heading);

describe.each(['For the owner of a site', 'For an administrator of a VO', 'A life'])('%s', (heading) => {
  test.each(under(heading).map((step, index) => ({ ...step, number: index + 1 })))('step $number', async (step) => {
    await desk.type(step);
  });
});

test('Not alone, and not at once: a virtual organization of two administrators', async () => {
  const administrators = ['alice', 'bob'].map((subject) => ({ issuer: 'kubernetes:demo', subject }));
  const about = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VirtualOrganization', metadata: { name: 'chemistry' } };
  await desk.site.apply([{ ...about, spec: { state: 'Forming', administrators } }]);
  for (const step of under('Not alone, and not at once')) {
    await desk.type({ ...step, script: step.script.replaceAll('physics', 'chemistry') });
  }
  const { spec } = await desk.site.get<{ spec: { governance?: object } }>('vo', 'chemistry');
  expect(spec.governance).toEqual({ secondAdministrator: true, delaySeconds: 86_400 });
});

test.each(under('Dissolving').map((step, index) => ({ ...step, number: index + 1 })))(
  'Dissolving, step $number',
  async (step) => {
    await desk.type(step);
  },
);

test('Who decided what: the log tells who formed, accepted and dissolved it', async () => {
  const [step] = under('Who decided what');
  const { printed } = await desk.terminal.type(step?.script ?? '', 60_000);
  const decisions = printed.split('\n').map((line) => JSON.parse(line) as { what: string; outcome: string });
  const allowed = decisions.filter(({ outcome }) => outcome === 'Allowed').map(({ what }) => what);
  expect(allowed).toEqual(
    expect.arrayContaining(['organization.form', 'organization.accept', 'organization.dissolve']),
  );
});
