/** Whether one pod reaches another: what the two pods of the test of NetworkPolicy do. */
import { connect, createServer, type Server } from 'node:net';
import type { Clock } from '#common/clock.ts';

/** What a caller waits for. */
export type Expectation = 'reached' | 'blocked';

/** Where a listener is. */
export interface ProbeTarget {
  readonly host: string;
  readonly port: number;
}

/**
 * Says that it was really our listener which answered: proxies of service meshes take every connection, also those that lead nowhere.
 */
const greeting = 'xtreemos-network-probe\n';

/** So many attempts in a row have to fail before a way counts as closed: one may be lost by chance. */
const failuresInARow = 3;
/** An answer inside a cluster takes milliseconds. */
const attemptMs = 1000;
const pauseMs = 250;
/** Only callers of the test are expected; others could come in as long as nothing is denied. */
const connectionsMax = 64;

/** Greets whoever connects. Not yet listening. */
export function createListener(): Server {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.setTimeout(attemptMs, () => socket.destroy());
    socket.end(greeting);
  });
  server.maxConnections = connectionsMax;
  return server;
}

/** Connects once. @returns whether the listener greeted in time; a refusal is none. */
export async function tryToReach(target: ProbeTarget): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ ...target, signal: AbortSignal.timeout(attemptMs) });
    let heard = '';
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      heard = (heard + text).slice(0, greeting.length);
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(heard === greeting));
    socket.on('end', () => socket.destroy());
  });
}

/**
 * Tries again and again until it sees what it waits for.
 * @returns whether it did before `limitMs` milliseconds were over.
 */
export async function waitForSight(
  expectation: Expectation,
  attempt: () => Promise<boolean>,
  { clock, limitMs }: { readonly clock: Clock; readonly limitMs: number },
): Promise<boolean> {
  const end = clock.monotonic() + limitMs;
  let failures = 0;
  for (;;) {
    failures = (await attempt()) ? 0 : failures + 1;
    if (expectation === 'reached' ? failures === 0 : failures >= failuresInARow) return true;
    if (clock.monotonic() >= end) return false;
    await clock.sleep(pauseMs);
  }
}
