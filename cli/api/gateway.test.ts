import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { FakeGateway } from '../testing/fake-gateway.ts';
import { type Gateway, gatewayAt } from './gateway.ts';

let fake: FakeGateway;
let gateway: Gateway;
beforeEach(async () => {
  fake = await FakeGateway.start();
  gateway = gatewayAt(fake, 'xos/test', { ...systemClock, sleep: async () => Promise.resolve() });
});
afterEach(async () => fake.stop());

const site = async (): Promise<unknown> => (await gateway.send('GET', '/v1/site', undefined, {})).body;

describe('a gateway that is unavailable', () => {
  test('is asked again when it says when', async () => {
    fake.unavailable = 2;
    expect(await site()).toMatchObject({ site: 'rennes' });
    expect(fake.arrived).toHaveLength(3);
  });

  test('is not asked without end', async () => {
    fake.unavailable = 100;
    await expect(site()).rejects.toMatchObject({ code: 'Unavailable' });
    expect(fake.arrived).toHaveLength(4);
  });

  test('is not waited for when it wants a long time', async () => {
    fake.unavailable = 1;
    fake.retryAfterSeconds = 300;
    await expect(site()).rejects.toMatchObject({ code: 'Unavailable' });
    expect(fake.arrived).toHaveLength(1);
  });

  test('and breaks the connection is asked again, and not without end', async () => {
    fake.lost = 2;
    expect(await site()).toMatchObject({ site: 'rennes' });
    expect(fake.arrived).toHaveLength(3);
    fake.lost = 100;
    await expect(site()).rejects.toThrow('does not answer');
    expect(fake.arrived).toHaveLength(7);
  });

  test.each([
    ['to take a peer: an invitation is good once', '/v1/peers'],
    ['to submit a job: its name is taken then', '/v1/jobs'],
  ])('and breaks the connection is not asked twice %s', async (_, path) => {
    fake.lost = 1;
    await expect(gateway.send('POST', path, {}, {})).rejects.toThrow('does not answer');
    expect(fake.arrived).toHaveLength(1);
  });

  test('that refuses is asked once', async () => {
    await expect(gateway.send('GET', '/v1/whoami', undefined, {})).rejects.toMatchObject({ code: 'SessionEnded' });
    expect(fake.arrived).toHaveLength(1);
  });
});
