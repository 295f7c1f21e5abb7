import { afterEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { peerMethods } from '#proto/site/schema.ts';
import { aLocalSite } from '#operator/testing/builders.ts';
import { answering } from './contract.ts';
import { helloMethod, PeerGreeter } from './hello.ts';
import { PeerStates, type PeerView } from './peer-states.ts';
import { MemoryPeers } from './testing/memory.ts';

const stoppers: AbortController[] = [];
afterEach(() => {
  for (const stopper of stoppers.splice(0)) stopper.abort();
});

/** Greets from site `a`. */
function greeterOf(network: MemoryPeers): PeerStates {
  const states = new PeerStates();
  const stopper = new AbortController();
  stoppers.push(stopper);
  const synced = async (): Promise<void> => Promise.resolve();
  const greeter = new PeerGreeter({ channels: network.site('a'), states, clock: systemClock, localSite: 'a', synced });
  void greeter.run(stopper.signal);
  return states;
}

async function heard(states: PeerStates, site: string, isWanted: (view: PeerView) => boolean): Promise<PeerView> {
  return new Promise((resolve) => {
    const look = (): void => {
      const view = states.get(site);
      if (view !== undefined && isWanted(view)) resolve(view);
    };
    states.onChange(look);
    look();
  });
}

describe('greeting peers', () => {
  const site = aLocalSite('b', { nodes: { count: 3, ready: 2 } });
  const facts = { sites: { get: () => site }, localSite: 'b', version: '1.2.3' };

  test('tells who is there, with its nodes and its version', async () => {
    const network = new MemoryPeers();
    network.site('b').add([helloMethod(facts)]);
    network.join('a', 'b');
    const view = await heard(greeterOf(network), 'b', ({ state }) => state === 'Connected');
    expect(view).toMatchObject({ version: '1.2.3', nodes: 3, nodesReady: 2 });
  });

  test.each([
    [
      'calls itself otherwise',
      { site: 'c', protocols: [1], version: '', nodes: 0, nodesReady: 0 },
      'It calls itself c',
    ],
    [
      'speaks no version of ours',
      { site: 'b', protocols: [7], version: '', nodes: 0, nodesReady: 0 },
      '7 there, 1 here',
    ],
  ])('refuses a peer that %s', async (_, answer, message) => {
    const network = new MemoryPeers();
    network.site('b').add([answering(peerMethods.Hello, async () => Promise.resolve(answer))]);
    network.join('a', 'b');
    const view = await heard(greeterOf(network), 'b', () => true);
    expect(view).toMatchObject({ state: 'Refused', message: expect.stringContaining(message) });
  });

  test('is refused under a name that the certificate does not have, and with unknown versions', async () => {
    const network = new MemoryPeers();
    network.site('b').add([helloMethod(facts)]);
    network.join('a', 'b');
    const call = async (name: string, protocols: number[]): Promise<unknown> =>
      network.site('a').channel('b').call(peerMethods.Hello, { site: name, protocols });
    await expect(call('mallory', [1])).rejects.toMatchObject({ reason: 'Refused' });
    await expect(call('a', [9])).rejects.toMatchObject({ reason: 'Refused' });
  });

  test('tells who is away, and greets at once a peer that is opened again', async () => {
    const network = new MemoryPeers();
    network.site('b').add([helloMethod(facts)]);
    network.site('a').setPeer('b', 'Open');
    const states = greeterOf(network);
    await heard(states, 'b', ({ state }) => state === 'Unreachable');
    network.join('a', 'b');
    await heard(states, 'b', ({ state }) => state === 'Connected');
    network.site('a').setPeer('b', 'Cut');
    network.site('a').setPeer('b', 'Open');
    await heard(states, 'b', ({ state }) => state === 'Connected');
  });
});
