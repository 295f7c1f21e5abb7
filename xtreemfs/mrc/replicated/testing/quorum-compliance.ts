import { describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { DeposedError, type Quorum, type Term } from '../quorum.ts';

const leader = (uuid: string): { uuid: string; address: string; token: string } => ({
  uuid,
  address: 'host:1',
  token: `token of ${uuid}`,
});

/** What every quorum promises; each test has a fresh one, and two ways to it. */
export function describeQuorum(name: string, open: () => [Quorum, Quorum]): void {
  const elect = async (quorum: Quorum, uuid: string, termMs = 60_000): Promise<Term> => {
    const term = await quorum.campaign(leader(uuid), termMs);
    if (term === undefined) throw new Error(`${uuid} was not elected`);
    return term;
  };
  describe(`${name}, as every quorum`, () => {
    test('names one history', async () => {
      const [one, other] = open();
      expect((await one.state()).history).toBeUndefined();
      expect(await one.found('first')).toBe('first');
      expect(await other.found('second')).toBe('first');
      expect((await other.state()).history).toBe('first');
    });

    test('has one leader at a time, whom all see', async () => {
      const [one, other] = open();
      const term = await elect(one, 'a');
      expect(await other.campaign(leader('b'), 60_000)).toBeUndefined();
      expect((await other.state()).leader).toEqual(leader('a'));
      await term.resign();
      await elect(other, 'b');
      expect((await one.state()).leader).toEqual(leader('b'));
    });

    test('keeps records in order, large ones too', async () => {
      const [one, other] = open();
      const term = await elect(one, 'a');
      const large = Buffer.alloc(3 * 2 ** 20 + 17, 'large');
      const written = [1, 2, 3, 4, 5, 6, 7].map((number) => (number === 4 ? large : Buffer.from(`record ${number}`)));
      for (const [index, bytes] of written.entries()) await term.append(index + 1, bytes);
      const read: Buffer[] = [];
      for (let found = await other.read(0); found.length > 0; found = await other.read(read.length)) {
        for (const { number, bytes } of found) {
          expect(number).toBe(read.length + 1);
          read.push(bytes);
        }
      }
      expect(read.map((bytes, index) => bytes.equals(written[index] ?? Buffer.alloc(0)))).toEqual(
        written.map(() => true),
      );
    });

    test('takes a record again that may have arrived, and forgets what all have', async () => {
      const [one, other] = open();
      const term = await elect(one, 'a');
      for (const number of [1, 1, 2, 2, 3]) await term.append(number, Buffer.from(`record ${number}`));
      await term.trim(2);
      expect((await other.state()).first).toBe(3);
      expect((await other.read(0)).map(({ number }) => number)).toEqual([3]);
      await term.trim(3);
      await term.trim(3);
      expect((await other.state()).first).toBeUndefined();
    });

    test('refuses everything of a leader that is not one any more', async () => {
      const [one, other] = open();
      const old = await elect(one, 'a', 2_000);
      await old.append(1, Buffer.from('in time'));
      const end = systemClock.monotonic() + 20_000;
      let term: Term | undefined;
      while (term === undefined && systemClock.monotonic() < end) {
        await systemClock.sleep(50);
        term = await other.campaign(leader('b'), 60_000);
      }
      await expect(old.append(2, Buffer.from('too late'))).rejects.toThrow(DeposedError);
      await expect(old.trim(1)).rejects.toThrow(DeposedError);
      await expect(old.renew()).rejects.toThrow(DeposedError);
      expect((await one.read(0)).map(({ bytes }) => bytes.toString())).toEqual(['in time']);
    });

    test('a term that is renewed goes on', async () => {
      const [one, other] = open();
      const term = await elect(one, 'a', 2_000);
      for (let round = 0; round < 8; round++) {
        await systemClock.sleep(500);
        await term.renew();
        expect(await other.campaign(leader('b'), 2_000)).toBeUndefined();
      }
      await term.append(1, Buffer.from('still'));
    });

    test('tells what members have', async () => {
      const [one, other] = open();
      await one.report({ uuid: 'a', durable: 5 });
      await other.report({ uuid: 'b', durable: 7 });
      await one.report({ uuid: 'a', durable: 6 });
      const { members } = await other.state();
      expect([...members].sort((a, b) => (a.uuid < b.uuid ? -1 : 1))).toEqual([
        { uuid: 'a', durable: 6 },
        { uuid: 'b', durable: 7 },
      ]);
    });
  });
}
