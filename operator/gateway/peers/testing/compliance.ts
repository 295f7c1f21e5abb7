/** What every way between sites has to do, whatever carries it. */
import type { MethodDefinition } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { InvalidInputError } from '#common/errors.ts';
import { answering, type PeerChannels, PeerError, type PeerServices, streaming } from '../contract.ts';

/** Two sites, `a` and `b`, that are peers of each other once started. */
export interface PeerWorld {
  readonly a: PeerChannels;
  readonly services: PeerServices;
  /** After everything was added to the services of `b`. */
  start(): Promise<void>;
  /** What the owner of one site says of the other; undefined: nothing. */
  setPeer(at: 'a' | 'b', connection: 'Open' | 'Cut' | undefined): void;
  stop(): Promise<void>;
}

/** What the methods of the tests carry. */
interface Message {
  readonly text: string;
}

function method(name: string, isStream: boolean): MethodDefinition<Message, Message> {
  const to = (message: Message): Buffer => Buffer.from(JSON.stringify(message));
  const from = (bytes: Buffer): Message => JSON.parse(bytes.toString()) as Message;
  return {
    path: `/test.Test/${name}`, requestStream: isStream, responseStream: isStream,
    requestSerialize: to, requestDeserialize: from, responseSerialize: to, responseDeserialize: from,
  }; // prettier-ignore
}

const echo = method('Echo', false);
const refuse = method('Refuse', false);
const charge = method('Charge', false);
const hang = method('Hang', false);
const upper = method('Upper', true);
const flood = method('Flood', true);
const first = method('First', true);
const missing = method('Missing', false);

async function* saying(...texts: string[]): AsyncGenerator<Message> {
  for (const text of texts) yield Promise.resolve({ text });
}

async function* waiting(): AsyncGenerator<Message> {
  yield { text: 'first' };
  await new Promise(() => undefined);
}

const reasonOf = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'none',
    (error: unknown) => (error instanceof PeerError ? error.reason : error),
  );

/** @param create - a fresh world for each test. */
export function describePeers(name: string, create: () => Promise<PeerWorld>): void {
  describe(name, () => {
    let world: PeerWorld;
    let ended: Promise<void>;
    let flooded = 0;

    beforeEach(async () => {
      world = await create();
      flooded = 0;
      let end = (): void => undefined;
      ended = new Promise((resolve) => (end = resolve));
      world.services.add([
        answering(echo, async ({ text }, { site }) => Promise.resolve({ text: `${site}: ${text}` })),
        answering(refuse, async ({ text }) => {
          if (text === 'invalid') throw new InvalidInputError('text', 'must be polite');
          if (text === 'busy') throw new PeerError('Busy', 'Later.');
          return Promise.reject(new Error('a secret of the site'));
        }),
        answering(charge, async ({ text }, caller) => {
          for (let index = 0; index < 500; index++) caller.charge(text);
          return Promise.resolve({ text });
        }),
        answering(hang, async (_, { signal }) => {
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
          end();
          return { text: 'over' };
        }),
        streaming(upper, async function* (requests, { signal }) {
          signal.addEventListener('abort', () => end(), { once: true });
          for await (const { text } of requests) yield { text: text.toUpperCase() };
        }),
        streaming(first, async function* (requests) {
          for await (const { text } of requests) {
            if (text === 'refuse') throw new PeerError('Refused', 'No.');
            yield { text };
            break;
          }
          yield Promise.resolve({ text: 'and more' });
        }),
        streaming(flood, async function* (_, { signal }) {
          while (!signal.aborted) {
            flooded++;
            yield Promise.resolve({ text: 'x'.repeat(65_536) });
          }
        }),
      ]);
      await world.start();
    });
    afterEach(async () => world.stop());

    test('answers a call and tells the handler who calls', async () => {
      expect(world.a.names()).toEqual(['b']);
      expect(await world.a.channel('b').call(echo, { text: 'I am c' })).toEqual({ text: 'a: I am c' });
    });

    test('carries streams both ways, in order', async () => {
      const answers: string[] = [];
      for await (const { text } of world.a.channel('b').stream(upper, saying('x', 'y', 'z'))) answers.push(text);
      expect(answers).toEqual(['X', 'Y', 'Z']);
    });

    test('lets a handler answer after it has read enough, or refuse', async () => {
      const answers: string[] = [];
      for await (const { text } of world.a.channel('b').stream(first, saying('x', 'y'))) answers.push(text);
      expect(answers).toEqual(['x', 'and more']);
      expect(await reasonOf(world.a.channel('b').stream(first, saying('refuse')).next())).toBe('Refused');
    });

    test('tells the handler when the caller leaves a stream', async () => {
      for await (const { text } of world.a.channel('b').stream(upper, waiting())) {
        expect(text).toBe('FIRST');
        break;
      }
      await ended;
    });

    test('makes a sender wait for a reader that does not keep up', async () => {
      const answers = world.a.channel('b').stream(flood, saying('go'));
      await answers.next();
      for (let index = 0; index < 30; index++) await world.a.channel('b').call(echo, { text: 'meanwhile' });
      expect(flooded).toBeLessThan(1000);
      await answers.return?.();
    });

    test('refuses with a reason, and keeps what is its own to itself', async () => {
      const channel = world.a.channel('b');
      expect(await reasonOf(channel.call(refuse, { text: 'invalid' }))).toBe('Invalid');
      expect(await reasonOf(channel.call(refuse, { text: 'busy' }))).toBe('Busy');
      expect(await reasonOf(channel.call(missing, { text: '' }))).toBe('Unsupported');
      const failure = channel.call(refuse, { text: '' });
      await expect(failure).rejects.toMatchObject({ reason: 'Failed' });
      await expect(failure).rejects.not.toThrow('secret');
    });

    test('limits what one virtual organization may ask through a peer, and leaves room for another', async () => {
      const channel = world.a.channel('b');
      expect(await reasonOf(channel.call(charge, { text: 'physics' }))).toBe('Busy');
      expect(await channel.call(echo, { text: 'still here' })).toEqual({ text: 'a: still here' });
    });

    test('gives up a call after its time, and when its signal aborts', async () => {
      const channel = world.a.channel('b');
      expect(await reasonOf(channel.call(hang, { text: '' }, { timeoutMs: 200 }))).toBe('Unreachable');
      const stopper = new AbortController();
      const call = reasonOf(channel.call(hang, { text: '' }, { signal: stopper.signal }));
      stopper.abort(new Error('enough'));
      expect(await call).toBe('Unreachable');
      await ended;
    });

    test('knows no way to who is unknown or cut off, and tells of the change', () => {
      let changes = 0;
      world.a.onChange(() => changes++);
      const before = changes;
      expect(() => world.a.channel('c')).toThrow(expect.objectContaining({ reason: 'Unknown' }));
      world.setPeer('a', 'Cut');
      expect(() => world.a.channel('b')).toThrow(expect.objectContaining({ reason: 'Cut' }));
      expect(world.a.names()).toEqual([]);
      expect(changes).toBeGreaterThan(before);
    });

    test.each(['Cut', undefined] as const)('ends at once what runs when the other side says %s', async (connection) => {
      const channel = world.a.channel('b');
      const answers = channel.stream(upper, waiting());
      await answers.next();
      const next = reasonOf(answers.next());
      world.setPeer('b', connection);
      expect(await next).toBe('Unreachable');
      await ended;
      expect(await reasonOf(channel.call(echo, { text: '' }, { timeoutMs: 5000 }))).toBe('Unreachable');
    });

    test('ends at once what runs when this side cuts the peer off, and works again after', async () => {
      const channel = world.a.channel('b');
      const call = reasonOf(channel.call(hang, { text: '' }, { timeoutMs: 60_000 }));
      await channel.call(echo, { text: '' });
      world.setPeer('a', 'Cut');
      expect(await call).toBe('Unreachable');
      world.setPeer('a', 'Open');
      expect(await channel.call(echo, { text: 'again' })).toEqual({ text: 'a: again' });
    });
  });
}
