import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { UnknownClaimError, type HoldRequest } from '#proto/selector/contract.ts';
import { Ledger, LedgerNotReadyError } from './ledger.ts';
import { MemoryClaimStore, type Claim } from './store.ts';

const hour = 3_600_000;

async function aNode(cpu = 4_000): Promise<{ clock: VirtualClock; store: MemoryClaimStore; ledger: Ledger }> {
  const clock = new VirtualClock();
  const store = new MemoryClaimStore();
  const ledger = new Ledger(clock, store);
  ledger.setAllocatable({ cpu });
  await ledger.open();
  return { clock, store, ledger };
}

function aHold(id: string, cpu: number, extra: Partial<HoldRequest> = {}): HoldRequest {
  return { id, owner: 'job', virtualOrganization: 'physics', demand: { cpu }, ttlMs: 10_000, ...extra };
}

describe('holds', () => {
  test('are refused when others hold the rest, saying what is lacking', async () => {
    const { ledger } = await aNode();
    expect(ledger.hold(aHold('a', 3_000)).granted).toBe(true);
    expect(ledger.hold(aHold('b', 2_000))).toEqual({
      granted: false,
      reason: 'Not enough free cpu: 2000 wanted, 1000 free',
    });
  });

  test('end by themselves, and confirming one that ended asks for a new hold', async () => {
    const { ledger, clock } = await aNode();
    ledger.hold(aHold('a', 4_000));
    clock.advance(10_000);
    expect(ledger.free()).toEqual({ cpu: 4_000 });
    await expect(ledger.confirm('a', 'job')).rejects.toThrow(UnknownClaimError);
  });

  test('end with the last pod that ran under them', async () => {
    const { ledger } = await aNode();
    ledger.hold(aHold('a', 3_000));
    const pod = { uid: 'p', claim: 'a', demand: { cpu: 3_000 } };
    ledger.setPods([{ ...pod, virtualOrganization: 'physics' }]);
    expect(ledger.free()).toEqual({ cpu: 1_000 });
    ledger.setPods([]);
    expect(ledger.free()).toEqual({ cpu: 4_000 });
  });

  test('are not ended by pods of another virtual organization that name them', async () => {
    const { ledger } = await aNode();
    ledger.hold(aHold('a', 3_000));
    ledger.setPods([{ uid: 'p', claim: 'a', demand: { cpu: 500 }, virtualOrganization: 'chemistry' }]);
    ledger.setPods([]);
    expect(ledger.free()).toEqual({ cpu: 1_000 });
  });

  test('asked for again are the same hold, with its time begun anew', async () => {
    const { ledger, clock } = await aNode();
    ledger.hold(aHold('a', 3_000));
    clock.advance(9_000);
    expect(ledger.hold(aHold('a', 3_000)).granted).toBe(true);
    clock.advance(9_000);
    expect(ledger.free()).toEqual({ cpu: 1_000 });
    expect(ledger.hold(aHold('a', 1))).toMatchObject({ granted: false });
  });

  test('run on the monotonic clock: a step of the wall clock neither ends nor prolongs them', async () => {
    const { ledger, clock } = await aNode();
    ledger.hold(aHold('a', 3_000));
    clock.step(hour);
    expect(ledger.free()).toEqual({ cpu: 1_000 });
    clock.step(-2 * hour);
    clock.advance(10_000);
    expect(ledger.free()).toEqual({ cpu: 4_000 });
  });

  test('belong to their owner', async () => {
    const { ledger } = await aNode();
    ledger.hold(aHold('a', 3_000));
    await expect(ledger.confirm('a', 'thief')).rejects.toThrow('belongs to another owner');
    await expect(ledger.release('a', 'thief')).rejects.toThrow('belongs to another owner');
  });

  test.each([
    ['a negative amount', { demand: { cpu: -1 } }, 'demand.cpu: must be a whole number of at least 0, not -1'],
    ['part of a millicore', { demand: { cpu: 0.5 } }, 'not 0.5'],
    ['a span that ends before it starts', { span: { startMs: 5, endMs: 5 } }, 'must end after it starts'],
    ['an endless hold', { ttlMs: Infinity }, 'ttlMs: must be 1 to 300000'],
    ['no owner', { owner: '' }, 'owner: must have 1 to 253 characters'],
    ['a reservation that gives way', { isReservation: true, isPreemptible: true }, 'neither give way'],
  ])('with %s are refused by name', async (_, extra, message) => {
    const { ledger } = await aNode();
    expect(() => ledger.hold(aHold('a', 1, extra))).toThrow(message);
  });

  test('are bounded in number', async () => {
    const { ledger } = await aNode();
    for (let i = 0; i < 1_024; i++) ledger.hold(aHold(`h${i}`, 0));
    expect(ledger.hold(aHold('c', 0))).toMatchObject({ granted: false, reason: expect.stringContaining('limit') });
  });
});

describe('pods', () => {
  test('count whoever made them, and those of a claim count within it', async () => {
    const { ledger } = await aNode();
    ledger.hold(aHold('a', 1_000));
    ledger.setPods([
      { uid: 'foreign', demand: { cpu: 1_500 } },
      { uid: 'mine', demand: { cpu: 800 }, claim: 'a', virtualOrganization: 'physics' },
    ]);
    expect(ledger.free()).toEqual({ cpu: 1_500 });
    ledger.setPods([{ uid: 'mine', demand: { cpu: 1_700 }, claim: 'a', virtualOrganization: 'physics' }]);
    expect(ledger.free()).toEqual({ cpu: 2_300 });
  });

  test('beyond what the node has leave nothing free and no debt', async () => {
    const { ledger } = await aNode();
    ledger.setPods([{ uid: 'p', demand: { cpu: 9_000 } }]);
    expect(ledger.free()).toEqual({ cpu: 0 });
  });

  test('of another virtual organization do not hide in a claim that they name (threat 49)', async () => {
    const { ledger } = await aNode();
    ledger.hold(aHold('a', 1_000));
    ledger.setPods([{ uid: 'thief', demand: { cpu: 800 }, claim: 'a', virtualOrganization: 'biology' }]);
    expect(ledger.free()).toEqual({ cpu: 2_200 });
  });
});

describe('a restart', () => {
  test('answers nothing before the claims are read, then counts the confirmed ones', async () => {
    const { ledger, store, clock } = await aNode();
    ledger.hold(aHold('kept', 3_000));
    ledger.hold(aHold('lost', 1_000));
    await ledger.confirm('kept', 'job');
    const again = new Ledger(clock, store);
    again.setAllocatable({ cpu: 4_000 });
    expect(() => again.hold(aHold('x', 1))).toThrow(LedgerNotReadyError);
    await again.open();
    expect(again.free()).toEqual({ cpu: 1_000 });
    await expect(again.confirm('kept', 'job')).resolves.toBeUndefined();
    await expect(again.confirm('lost', 'job')).rejects.toThrow(UnknownClaimError);
  });
});

describe('a store that fails', () => {
  test('after writing leaves the resources counted until the claim is surely gone', async () => {
    const { ledger, store } = await aNode();
    const put = store.put.bind(store);
    store.put = async (claim: Claim): Promise<void> => {
      await put(claim);
      throw new Error('timed out');
    };
    ledger.hold(aHold('a', 3_000));
    await expect(ledger.confirm('a', 'job')).rejects.toThrow('timed out');
    expect(ledger.free()).toEqual({ cpu: 1_000 });
    await ledger.settle();
    expect(ledger.free()).toEqual({ cpu: 4_000 });
    expect(await store.list()).toEqual([]);
  });

  test('to remove keeps the resources counted, and releasing again succeeds later', async () => {
    const { ledger, store } = await aNode();
    ledger.hold(aHold('a', 3_000));
    await ledger.confirm('a', 'job');
    const remove = store.remove.bind(store);
    store.remove = async (): Promise<void> => Promise.reject(new Error('API server away'));
    await expect(ledger.release('a', 'job')).rejects.toThrow('API server away');
    expect(ledger.free()).toEqual({ cpu: 1_000 });
    store.remove = remove;
    await ledger.release('a', 'job');
    expect(ledger.free()).toEqual({ cpu: 4_000 });
  });
});

describe('reservations', () => {
  test('keep their window free of work without a known end, not of work that ends before', async () => {
    const { ledger, clock } = await aNode();
    const window = { startMs: clock.now() + hour, endMs: clock.now() + 2 * hour };
    ledger.hold(aHold('r', 3_000, { span: window, isReservation: true }));
    await ledger.confirm('r', 'job');
    expect(ledger.hold(aHold('long', 2_000)).granted).toBe(false);
    const short = { startMs: clock.now(), endMs: clock.now() + hour };
    expect(ledger.hold(aHold('short', 4_000, { span: short })).granted).toBe(true);
    const other = { startMs: window.startMs - hour / 2, endMs: window.startMs + 1 };
    expect(ledger.hold(aHold('r2', 2_000, { span: other, isReservation: true }))).toEqual({
      granted: false,
      reason: 'Not enough free in that window: cpu: 2000 wanted, 0 free',
    });
  });

  test('are drawn from by their own virtual organization only, and no more than there is', async () => {
    const { ledger, clock } = await aNode();
    const span = { startMs: clock.now(), endMs: clock.now() + hour };
    ledger.hold(aHold('r', 3_000, { span, isReservation: true }));
    await ledger.confirm('r', 'job');
    expect(ledger.hold(aHold('a', 2_000, { reservation: 'r' })).granted).toBe(true);
    expect(ledger.hold(aHold('b', 2_000, { reservation: 'r' }))).toMatchObject({
      reason: 'Not enough left of reservation r: cpu: 2000 wanted, 1000 free',
    });
    expect(ledger.hold(aHold('c', 1, { reservation: 'r', virtualOrganization: 'chemistry' })).granted).toBe(false);
    expect(ledger.free()).toEqual({ cpu: 1_000 });
  });

  test('push out work that gives way when they begin, no more of it than is needed', async () => {
    const { ledger, clock } = await aNode();
    const window = { startMs: clock.now() + hour, endMs: clock.now() + 2 * hour };
    ledger.hold(aHold('r', 3_000, { span: window, isReservation: true }));
    await ledger.confirm('r', 'job');
    for (const id of ['old', 'new']) {
      expect(ledger.hold(aHold(id, 1_000, { isPreemptible: true })).granted).toBe(true);
      await ledger.confirm(id, 'job');
    }
    expect(ledger.leaving().claims).toEqual([]);
    clock.advance(hour);
    expect(ledger.leaving().claims.map(({ id }) => id)).toEqual(['new']);
  });

  test('have their place in time: pods that give way are ended so early that they can end by themselves', async () => {
    const { ledger, clock } = await aNode();
    const start = clock.now() + hour;
    ledger.hold(aHold('r', 3_000, { span: { startMs: start, endMs: start + hour }, isReservation: true }));
    await ledger.confirm('r', 'job');
    const pod = { demand: { cpu: 1_000 }, virtualOrganization: 'physics', givesWay: true, graceMs: 30_000 };
    ledger.setPods(['a', 'b'].map((uid) => ({ ...pod, uid })));
    clock.advance(hour - 60_000);
    expect(ledger.leaving()).toEqual({ pods: [], claims: [], nextAt: start - 33_000 });
    clock.advance(27_000);
    expect(ledger.leaving().pods.map(({ uid }) => uid)).toEqual(['b']);
    ledger.setPods([
      { ...pod, uid: 'a' },
      { ...pod, uid: 'b', isLeaving: true },
    ]);
    clock.advance(33_500);
    // Slow to leave as it is, it costs nobody else their place; and nothing is started on top of it.
    expect(ledger.leaving().pods).toEqual([]);
    const draw = aHold('task', 3_000, { span: { startMs: 0, endMs: start + hour }, reservation: 'r' });
    expect(ledger.hold(draw)).toEqual({
      granted: false,
      reason: 'Work that gives way to reservation r has not left yet',
    });
    ledger.setPods([{ ...pod, uid: 'a' }]);
    expect(ledger.hold(draw)).toMatchObject({ granted: true });
  });

  test('send away as few pods of one hold as they need, and nothing comes back into their place before them', async () => {
    const { ledger, clock } = await aNode();
    const start = clock.now() + 250_000;
    ledger.hold(aHold('r', 2_000, { span: { startMs: start, endMs: start + hour }, isReservation: true }));
    await ledger.confirm('r', 'job');
    const pods = [0, 1, 2].map((uid) => ({
      ...{ uid: String(uid), claim: 'array', demand: { cpu: 1_000 }, virtualOrganization: 'physics', graceMs: 2_000 },
    }));
    expect(ledger.hold(aHold('array', 3_000, { isPreemptible: true, ttlMs: 300_000 }))).toMatchObject({
      granted: true,
    });
    ledger.setPods(pods);
    clock.advance(246_000);
    expect(ledger.leaving().pods.map(({ uid }) => uid)).toEqual(['2']);
    ledger.setPods(pods.slice(0, 2));
    expect(ledger.leaving().pods).toEqual([]);
    expect(ledger.free({ isPreemptible: true })).toEqual({ cpu: 0 });
    ledger.setPods(pods.slice(0, 1));
    // One at a time, each would fit beside what is reserved.
    expect(ledger.hold(aHold('late', 1_000, { isPreemptible: true }))).toMatchObject({ granted: true });
    expect(ledger.hold(aHold('later', 1_000, { isPreemptible: true }))).toEqual({
      ...{ granted: false, reason: 'Reserved later: cpu: 1000 wanted, 0 free' },
    });
  });

  test('let work that gives way in until shortly before, unless they drain', async () => {
    const { ledger, clock } = await aNode();
    const span = { startMs: clock.now() + hour, endMs: clock.now() + 2 * hour };
    ledger.hold(aHold('r', 2_000, { span, isReservation: true }));
    ledger.hold(aHold('d', 1_000, { span, isReservation: true, isDraining: true }));
    for (const id of ['r', 'd']) await ledger.confirm(id, 'job');
    expect(ledger.free({ isPreemptible: true })).toEqual({ cpu: 3_000 });
    expect(ledger.free()).toEqual({ cpu: 1_000 });
    expect(ledger.reasonAgainstDemand({ cpu: 2_000 })).toBe('Reserved later: cpu: 2000 wanted, 1000 free');
    const ending = { startMs: 0, endMs: span.startMs };
    expect(ledger.free({ span: ending })).toEqual({ cpu: 4_000 });
    clock.advance(hour - 60_000);
    expect(ledger.free({ isPreemptible: true })).toEqual({ cpu: 1_000 });
  });

  test('may follow work whose end is known', async () => {
    const { ledger, clock } = await aNode();
    const endMs = clock.now() + hour;
    ledger.setPods([{ uid: 'p', demand: { cpu: 3_000 }, virtualOrganization: 'physics', endMs }]);
    const after = { startMs: endMs, endMs: endMs + hour };
    expect(ledger.hold(aHold('r', 4_000, { span: after, isReservation: true }))).toMatchObject({ granted: true });
    await ledger.confirm('r', 'job');
    clock.advance(hour + 1_000);
    // It is still there beyond its time: that is counted as it is.
    expect(ledger.free()).toEqual({ cpu: 0 });
  });

  test('are not drawn from twice after a restart: pods say what they draw', async () => {
    const { ledger, clock, store } = await aNode();
    const span = { startMs: clock.now(), endMs: clock.now() + hour };
    ledger.hold(aHold('r', 3_000, { span, isReservation: true }));
    await ledger.confirm('r', 'job');
    const again = new Ledger(clock, store);
    again.setAllocatable({ cpu: 4_000 });
    await again.open();
    const pod = {
      uid: 'p',
      demand: { cpu: 2_000 },
      claim: 'forgotten',
      reservation: 'r',
      virtualOrganization: 'physics',
    };
    again.setPods([pod, { ...pod, uid: 'thief', virtualOrganization: 'chemistry', demand: { cpu: 500 } }]);
    expect(again.free()).toEqual({ cpu: 500 });
    expect(again.hold(aHold('b', 2_000, { reservation: 'r' }))).toMatchObject({
      reason: 'Not enough left of reservation r: cpu: 2000 wanted, 1000 free',
    });
    expect(again.hold(aHold('c', 1_000, { reservation: 'r' }))).toMatchObject({ granted: true });
  });

  test('that are over leave by themselves', async () => {
    const { ledger, clock, store } = await aNode();
    ledger.hold(aHold('r', 3_000, { span: { startMs: clock.now(), endMs: clock.now() + hour }, isReservation: true }));
    await ledger.confirm('r', 'job');
    clock.advance(hour);
    expect(ledger.free()).toEqual({ cpu: 1_000 });
    await ledger.settle();
    expect(ledger.free()).toEqual({ cpu: 4_000 });
    expect(await store.list()).toEqual([]);
  });
});

describe('the store behind the ledger', () => {
  test('a claim that the store has lost frees its place, one that appeared in it takes it', async () => {
    const { ledger, store } = await aNode();
    ledger.hold(aHold('a', 1_000));
    await ledger.confirm('a', 'job');
    const [claim] = store.all;
    ledger.lose('a');
    expect(ledger.free()).toEqual({ cpu: 4_000 });
    ledger.adopt(claim!);
    ledger.adopt(claim!);
    expect(ledger.free()).toEqual({ cpu: 3_000 });
  });

  test('a hold is not lost with the store', async () => {
    const { ledger } = await aNode();
    ledger.hold(aHold('a', 1_000));
    ledger.lose('a');
    expect(ledger.free()).toEqual({ cpu: 3_000 });
  });

  test('is told which claims have to give way once a reservation begins, and once only', async () => {
    const { ledger, store, clock } = await aNode();
    const span = { startMs: clock.now() + hour, endMs: clock.now() + 2 * hour };
    ledger.hold(aHold('window', 3_000, { span, isReservation: true }));
    ledger.hold(aHold('gives-way', 3_000, { isPreemptible: true }));
    for (const id of ['window', 'gives-way']) await ledger.confirm(id, 'job');
    await ledger.settle();
    expect([...store.preempted]).toEqual([]);
    clock.advance(hour);
    await ledger.settle();
    expect([...store.preempted]).toEqual(['gives-way']);
  });
});
