import type { Duplex } from 'node:stream';
import type { StreamLimits } from '#operator/gateway/open-streams.ts';

/** How many connections of XtreemFS there may be between two sites: a mount has one to the DIR, one to the MRC and one to each OSD. */
export const relayLimits: StreamLimits = { member: 128, organization: 192, peer: 256, ofWhat: 'one volume' };
/** Of one message: less than peers take. */
const pieceBytesMax = 256 * 1024;

/** What comes out of a connection, in pieces that fit into messages. Who reads slowly makes the other end wait. */
export async function* piecesOf(stream: Duplex): AsyncGenerator<Buffer> {
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.length; at += pieceBytesMax) yield chunk.subarray(at, at + pieceBytesMax);
  }
}

/** Writes all that comes into a connection, no faster than it goes; ends it after the last, and breaks it when the source does. */
export async function writeAll(source: AsyncIterable<Uint8Array>, stream: Duplex): Promise<void> {
  try {
    for await (const piece of source) {
      if (stream.destroyed) return;
      if (!stream.write(piece)) await drained(stream);
    }
    stream.end();
  } catch (error) {
    stream.destroy(error as Error);
  }
}

/** Resolves when more may be written, and when nothing can be any more. */
async function drained(stream: Duplex): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.off('drain', done).off('close', done);
      resolve();
    };
    stream.on('drain', done).on('close', done);
    if (stream.destroyed) done();
  });
}
