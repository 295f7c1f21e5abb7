import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { exitMessage, exitStatusIn, frameOf, sizeIn, sizeMessage } from './remote-channels.ts';

const request = { method: 'GET', path: '/exec' };

test('an exit status is read as it was written', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 255 }), (status) => {
      expect(exitStatusIn(exitMessage(status), request)).toBe(status);
    }),
  );
});

test('the size of a terminal is read as it was written, and anything else is none', () => {
  const count = fc.integer({ min: 0, max: 65_535 });
  fc.assert(
    fc.property(count, count, (columns, rows) => {
      expect(sizeIn(sizeMessage({ columns, rows }))).toEqual({ columns, rows });
    }),
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      const size = sizeIn(Buffer.from(text));
      if (size !== undefined) expect(Object.values(size).every((each) => each >= 0 && each <= 65_535)).toBe(true);
    }),
  );
});

test('a message is its channel and its bytes', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 255 }), fc.uint8Array(), (channel, data) => {
      const frame = frameOf(channel, data);
      expect([frame[0], [...frame.subarray(1)]]).toEqual([channel, [...data]]);
    }),
  );
});
