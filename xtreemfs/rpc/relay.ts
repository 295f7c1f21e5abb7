/**
 * Connections through a relay: the client says in one line of JSON for which volume it wants which server, and is answered in one line; from then on
 * the connection is one to that server.
 */
import type { Socket } from 'node:net';
import { formatAddress, type Address } from './address.ts';
import { createDialer, type Dialed, type Dialer } from './transport.ts';
import type { TlsMaterial } from './tls.ts';

/** What a client asks of a relay. */
export interface RelayRequestLine {
  /** Name of the volume. */
  readonly volume: string;
  /** `HOST:PORT`, as the directory names it. */
  readonly server: string;
}

/** What a relay answers: nothing, or why not. */
export interface RelayAnswerLine {
  readonly problem?: string;
}

/** Longest line of either side, bytes. */
const lineBytesMax = 2_048;

/** A line, as it is sent. */
export function relayLine(value: RelayRequestLine | RelayAnswerLine): string {
  return `${JSON.stringify(value)}\n`;
}

/**
 * Reads one line of JSON from a connection, which is paused afterwards.
 * @returns the value, and what came after it.
 * @throws {Error} when the connection ends before, the line is too long or is none, or the signal aborts.
 */
export async function readRelayLine(socket: Socket, signal: AbortSignal): Promise<{ value: object; rest: Buffer }> {
  const line = await new Promise<{ text: string; rest: Buffer }>((resolve, reject) => {
    let held: Buffer = Buffer.alloc(0);
    const finish = (then: () => void): void => {
      socket.pause();
      socket.off('data', onData).off('close', onClose).off('error', onError);
      signal.removeEventListener('abort', onAbort);
      then();
    };
    const onData = (chunk: Buffer): void => {
      held = Buffer.concat([held, chunk]);
      const end = held.indexOf('\n');
      if (end >= 0) finish(() => resolve({ text: held.toString('utf8', 0, end), rest: held.subarray(end + 1) }));
      else if (held.length > lineBytesMax) finish(() => reject(new Error('the first line of the relay is too long')));
    };
    const onError = (error: Error): void => finish(() => reject(error));
    const onClose = (): void => finish(() => reject(new Error('the relay closed the connection')));
    const onAbort = (): void => finish(() => reject(signal.reason as Error));
    socket.on('data', onData).on('close', onClose).on('error', onError);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    else socket.resume();
  });
  const value: unknown = JSON.parse(line.text);
  if (typeof value !== 'object' || value === null) throw new Error('the first line of the relay is no object');
  return { value, rest: line.rest };
}

/**
 * Dials servers of one volume through a relay that trusts our certificate.
 * @param relay - where it listens.
 */
export function createRelayDialer(relay: Address, volume: string, tls: TlsMaterial): Dialer {
  const direct = createDialer('pbrpcs', tls);
  return {
    scheme: direct.scheme,
    dial: async (address, signal): Promise<Dialed> => {
      const { socket, peer } = await direct.dial(relay, signal);
      // Until somebody takes the connection over.
      const onError = (): void => undefined;
      socket.on('error', onError);
      try {
        socket.write(relayLine({ volume, server: formatAddress(address) }));
        const { value, rest } = await readRelayLine(socket, signal);
        const { problem } = value as RelayAnswerLine;
        if (problem !== undefined) throw new Error(problem);
        return { socket, peer, early: rest };
      } catch (error) {
        socket.destroy();
        throw error;
      }
    },
  };
}
