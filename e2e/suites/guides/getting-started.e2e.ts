/** The guide for a new user, typed as it stands: a virtual organization from its first day to its last. */
import { afterAll, beforeAll, jest, test } from '@jest/globals';
import { Desk, stepsOf } from './desk.ts';
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

/** The first step was the installation; the last takes the site away, which is not ours. */
const steps = stepsOf('docs/getting-started.md')
  .slice(1)
  .filter(({ script }) => !script.includes('make sites-down'));

/** The guide says that gateways know a new authority after a few seconds. */
const isFirstLogin = ({ script }: Step): boolean => script.includes('xos login') && !script.includes('kubectl');

test.each(steps.map((step, index) => ({ ...step, number: index + 2 })))('step $number: $heading', async (step) => {
  await desk.type(step, { isRepeated: isFirstLogin(step) });
});
