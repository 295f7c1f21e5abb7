/**
 * A program of the pods that test whether NetworkPolicy is enforced (`operator/controllers/site/network/`). `network-probe listen` greets
 * whoever connects; `network-probe reached` and `network-probe blocked` wait until a listener is reached, or no longer.
 */
import { z } from 'zod';
import { systemClock } from '#common/clock.ts';
import { describeError, InvalidInputError } from '#common/errors.ts';
import { option, parseOptions } from '#common/options.ts';
import { createListener, tryToReach, waitForSight } from './probe.ts';

const whole = (min: number, max: number): z.ZodType<number> =>
  z.coerce
    .number('use a whole number')
    .int('use a whole number')
    .min(min, `use at least ${min}`)
    .max(max, `use at most ${max}`);

const options = {
  host: option({
    schema: z.string().max(253, 'use at most 253 characters'),
    about: 'Address of the listener',
    default: '',
    value: 'ADDRESS',
  }),
  port: option({ schema: whole(1, 65_535), about: 'Port of the listener', default: '8080', value: 'PORT' }),
  limitMs: option({
    schema: whole(1, 3_600_000),
    about: 'How long to wait at most, milliseconds',
    default: '30000',
    value: 'MS',
  }),
} as const;

/** Ends with 0 when it saw what it waited for, and 3 when it did not. */
async function main(argv: readonly string[]): Promise<number> {
  const { values, words } = parseOptions(options, argv, {});
  const [verb = ''] = words;
  if (verb === 'listen') {
    const { promise, reject } = Promise.withResolvers<number>();
    createListener().on('error', reject).listen(values.port);
    return promise;
  }
  if (verb !== 'reached' && verb !== 'blocked') {
    throw new InvalidInputError('command line', `${JSON.stringify(verb)} is not listen, reached or blocked`);
  }
  if (values.host === '') throw new InvalidInputError('--host', 'is required: the address of the listener');
  const isSeen = await waitForSight(verb, async () => tryToReach(values), {
    clock: systemClock,
    limitMs: values.limitMs,
  });
  process.stdout.write(`${values.host}:${values.port} ${isSeen ? `is ${verb}` : `was not ${verb} in time`}\n`);
  return isSeen ? 0 : 3;
}

// The first process of a container ends by a signal only when it says so.
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(0));
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = 2;
}
