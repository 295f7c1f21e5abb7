import fc from 'fast-check';
import { expect, test } from '@jest/globals';
import {
  compareProposals,
  decodeFlease,
  encodeFlease,
  FleaseType,
  javaHash,
  type FleaseMessage,
} from './flease-message.ts';

/** Vector of the protocol reference, section 20. */
const golden =
  '00' + '00000009' + '2f66696c652f763a31' + '0000018bcfe56800' + '0000000000343131' + '00'.repeat(16) +
  '0000018bcfe56801' + '00'.repeat(8) + '00000000' + '00000000' + 'ffffffffffffffff'; // prettier-ignore

const prepare: FleaseMessage = {
  type: FleaseType.PREPARE,
  cellId: '/file/v:1',
  proposal: { number: 1_700_000_000_000, senderId: 3_420_465 },
  previous: { number: 0, senderId: 0 },
  sentAt: 1_700_000_000_001,
  leaseEnd: 0,
  holder: '',
  view: 0,
  masterEpoch: -1,
};

test('a PREPARE is written and read as the reference has it', () => {
  expect(encodeFlease(prepare).toString('hex')).toBe(golden);
  expect(decodeFlease(Buffer.from(golden, 'hex'))).toEqual(prepare);
});

test("nodes are named in ballots by Java's hash of their UUID", () => {
  expect(javaHash('osd1')).toBe(3_420_465);
  expect(javaHash('6a6c3e8e-1c0b-4f3a-9d55-0a1b2c3d4e5f:42')).toBe(-1_070_394_582);
});

test('ballots are ordered by number, then by sender', () => {
  expect(compareProposals({ number: 1, senderId: 9 }, { number: 2, senderId: -9 })).toBeLessThan(0);
  expect(compareProposals({ number: 2, senderId: -1 }, { number: 2, senderId: 1 })).toBeLessThan(0);
  expect(compareProposals({ number: 2, senderId: 1 }, { number: 2, senderId: 1 })).toBe(0);
});

test('whatever is written is read again the same', () => {
  const long = fc.integer({ min: -(2 ** 50), max: 2 ** 50 });
  const proposal = fc.record({ number: long, senderId: long });
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', ':', '-', '0', '9'), maxLength: 60 });
  const type = fc.constantFrom(...Object.values(FleaseType));
  const view = fc.integer({ min: -1, max: 2 ** 31 - 1 });
  fc.assert(
    fc.property(
      fc.record({
        type,
        cellId: text,
        proposal,
        previous: proposal,
        sentAt: long,
        leaseEnd: long,
        holder: text,
        view,
        masterEpoch: long,
      }),
      (message) => expect(decodeFlease(encodeFlease(message))).toEqual(message),
    ),
  );
});

test('any other bytes are no message, and never an error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(77), fc.nat(255), (noise, at, value) => {
      decodeFlease(Buffer.from(noise));
      const damaged = Buffer.from(golden, 'hex');
      damaged[at] = value;
      decodeFlease(damaged);
      expect(decodeFlease(damaged.subarray(0, at))).toBeUndefined();
    }),
  );
});
