/** Laws of the generated codecs, for every message of every procedure. */
import fc from 'fast-check';
import { describe, expect, test } from '@jest/globals';
import { dirProcedures } from '#proto/generated/xtreemfs/dir.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { bytesToText, CodecError, textToBytes, type Codec } from '#proto/wire.ts';

const codecs = new Map<string, Codec<unknown>>();
for (const procedures of [dirProcedures, mrcProcedures, osdProcedures]) {
  for (const { request, response } of Object.values(procedures)) {
    for (const codec of [request, response] as Codec<unknown>[]) codecs.set(codec.name, codec);
  }
}

/** Any bytes, and among them many that look like fields. */
const wireLike = fc
  .array(
    fc.oneof(
      fc.tuple(fc.constantFrom(0x0d, 0x15, 0x1d, 0x25, 0x2d), fc.uint8Array({ minLength: 4, maxLength: 4 })),
      fc.tuple(
        fc.constantFrom(0x09, 0x11, 0x19, 0x21),
        fc.uint8Array({ minLength: 6, maxLength: 6 }).map((low) => Uint8Array.from([...low, 0, 0])),
      ),
      fc.tuple(
        fc.constantFrom(0x08, 0x10, 0x18, 0x30),
        fc.constantFrom(Uint8Array.of(0), Uint8Array.of(1), Uint8Array.of(3)),
      ),
      fc.tuple(
        fc.constantFrom(0x0a, 0x12, 0x1a, 0x22, 0x2a, 0x32),
        fc.uint8Array({ maxLength: 40 }).map((text) => Uint8Array.from([text.length, ...text])),
      ),
    ),
    { maxLength: 12 },
  )
  .map((fields) => Buffer.concat(fields.map(([tag, value]) => Buffer.from([tag, ...value]))));

describe.each([...codecs])('%s', (_, codec) => {
  test('what was read is written and read again the same; damage gives a CodecError and nothing else', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          wireLike,
          fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
        ),
        (bytes) => {
          let message: unknown;
          try {
            message = codec.decode(bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(CodecError);
            return;
          }
          expect(Object.getPrototypeOf(message)).toBe(Object.prototype);
          const again = codec.encode(message);
          expect(codec.decode(again)).toEqual(message);
          expect(codec.encode(codec.decode(again)).equals(again)).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });
});

test('any bytes become text and the same bytes again', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      expect(textToBytes(bytesToText(Buffer.from(bytes))).equals(Buffer.from(bytes))).toBe(true);
    }),
    { numRuns: 2_000 },
  );
});
