import { expect, test } from '@jest/globals';
import { InvalidInputError } from '#common/errors.ts';
import {
  SelectorUnavailableError,
  UnknownClaimError,
  type HoldRequest,
  type Offer,
  type Query,
  type ResourceSelection,
  type Summary,
} from '../contract.ts';
import type { FakeNode } from './fake.ts';

/** The nodes that an implementation is tried on. */
export const complianceNodes: readonly FakeNode[] = [
  { name: 'small', attributes: { cores: 4, arch: 'amd64' }, allocatable: { cpu: 4_000, memory: 8e9 } },
  { name: 'middle', attributes: { cores: 8, arch: 'arm64' }, allocatable: { cpu: 8_000, memory: 16e9 } },
  { name: 'large', attributes: { cores: 16, arch: 'amd64' }, allocatable: { cpu: 16_000, memory: 32e9 } },
];

/** One implementation with {@link complianceNodes}, each free at the start. */
export interface ComplianceWorld {
  readonly selection: ResourceSelection;
  /** An address where nobody answers. */
  readonly deadAddress: string;
  /** Wall clock of the nodes, milliseconds. */
  now(): number;
  /** The selector of a node is killed and starts again with what it had made durable. */
  crash(node: string): Promise<void>;
}

/** A query with every part. */
export function aQuery(fields: Partial<Query> = {}): Query {
  return { id: 'q', constraints: [], predicates: [], demand: {}, virtualOrganization: 'physics', ...fields };
}

/** A hold of some CPU by `job-1` of `physics`. */
export function aHold(id: string, cpu: number, fields: Partial<HoldRequest> = {}): HoldRequest {
  return { id, owner: 'job-1', virtualOrganization: 'physics', demand: { cpu }, ttlMs: 30_000, ...fields };
}

/** Every message of a selection. */
export async function selectAll(
  selection: ResourceSelection,
  query: Query,
  wanted = 100,
): Promise<{ readonly offers: Offer[]; readonly summary: Summary | undefined }> {
  const offers: Offer[] = [];
  let summary: Summary | undefined;
  for await (const message of selection.select(query, { wanted, timeoutMs: 5_000 })) {
    if ('offer' in message) offers.push(message.offer);
    else summary = message.summary;
  }
  return { offers: offers.sort((a, b) => a.node.localeCompare(b.node)), summary };
}

/** Registers the tests that every implementation passes. Each test leaves the nodes free. */
export function testCompliance(world: () => ComplianceWorld): void {
  const owner = 'job-1';
  const find = async (node: string): Promise<Offer> => {
    const { offers } = await selectAll(world().selection, aQuery());
    const offer = offers.find((one) => one.node === node);
    if (offer === undefined) throw new Error(`${node} made no offer`);
    return offer;
  };

  test('a selection yields every node that matches, with what it has free, and then the summary', async () => {
    const constraints = [{ attribute: 'cores', min: 8 }];
    const { offers, summary } = await selectAll(world().selection, aQuery({ constraints }));
    expect(offers.map(({ node }) => node)).toEqual(['large', 'middle']);
    expect(offers[0]).toMatchObject({ free: { cpu: 16_000 }, attributes: { cores: 16, arch: 'amd64' } });
    expect(offers[0]?.id).toBe(`${offers[0]?.site}/large`);
    expect(summary).toMatchObject({ isExhausted: true, unreached: 0, refusals: {} });
  });

  test('candidates that do not fit now are counted by reason', async () => {
    const query = aQuery({ demand: { cpu: 5_000 }, predicates: ['free.cpu >= 9000'] });
    const { offers, summary } = await selectAll(world().selection, query);
    expect(offers.map(({ node }) => node)).toEqual(['large']);
    expect(Object.values(summary?.refusals ?? {})).toEqual([1, 1]);
    expect(Object.keys(summary?.refusals ?? {}).join()).toMatch(/Not enough free cpu/);
    expect(Object.keys(summary?.refusals ?? {}).join()).toContain('Not so now: free.cpu >= 9000');
  });

  test('a query that can never be answered is refused by field', async () => {
    const upsideDown = aQuery({ constraints: [{ attribute: 'cores', min: 2, max: 1 }] });
    await expect(selectAll(world().selection, upsideDown)).rejects.toThrow(InvalidInputError);
    await expect(selectAll(world().selection, upsideDown)).rejects.toThrow('must not exceed max');
    await expect(selectAll(world().selection, aQuery({ predicates: ['free.cpu ='] }))).rejects.toThrow(
      /predicates\[0\]/,
    );
    await expect(selectAll(world().selection, aQuery(), 1_001)).rejects.toThrow('wanted: must be 1 to 1000');
  });

  test('a loop over a selection may be left early', async () => {
    for await (const message of world().selection.select(aQuery(), { wanted: 1, timeoutMs: 5_000 })) {
      expect('offer' in message).toBe(true);
      break;
    }
  });

  test('a hold takes its share of what is free, again is the same hold, and a release gives it back', async () => {
    const { selection } = world();
    const { address } = await find('small');
    expect(await selection.hold(address, aHold('h1', 3_000))).toEqual({ granted: true, ttlMs: 30_000 });
    expect(await selection.hold(address, aHold('h1', 3_000))).toMatchObject({ granted: true });
    expect((await find('small')).free.cpu).toBe(1_000);
    expect(await selection.hold(address, aHold('h2', 2_000))).toEqual({
      granted: false,
      reason: 'Not enough free cpu: 2000 wanted, 1000 free',
    });
    await selection.release(address, { id: 'h1', owner });
    await selection.release(address, { id: 'h1', owner });
    expect((await find('small')).free.cpu).toBe(4_000);
  });

  test('a confirmed claim outlives a crash of its node, a hold does not', async () => {
    const { selection } = world();
    const { address, incarnation } = await find('middle');
    await selection.hold(address, aHold('kept', 2_000));
    await selection.hold(address, aHold('lost', 3_000));
    await selection.confirm(address, { id: 'kept', owner });
    await selection.confirm(address, { id: 'kept', owner });
    await world().crash('middle');
    const again = await find('middle');
    expect(again.incarnation).toBeGreaterThanOrEqual(incarnation);
    expect(again.free.cpu).toBe(6_000);
    await expect(selection.confirm(again.address, { id: 'lost', owner })).rejects.toThrow(UnknownClaimError);
    await selection.confirm(again.address, { id: 'kept', owner });
    await selection.release(again.address, { id: 'kept', owner });
    expect((await find('middle')).free.cpu).toBe(8_000);
  });

  test('nobody else may confirm or release a hold', async () => {
    const { selection } = world();
    const { address } = await find('small');
    await selection.hold(address, aHold('mine', 1_000));
    const foreign = { id: 'mine', owner: 'job-2' };
    await expect(selection.confirm(address, foreign)).rejects.toThrow(UnknownClaimError);
    await expect(selection.release(address, foreign)).rejects.toThrow(UnknownClaimError);
    await selection.release(address, { id: 'mine', owner });
  });

  test('work may draw from a confirmed reservation, within its window only', async () => {
    const { selection } = world();
    const now = world().now();
    const { address } = await find('large');
    const span = { startMs: now + 3_600_000, endMs: now + 7_200_000 };
    await selection.hold(address, aHold('window', 16_000, { span, isReservation: true }));
    await selection.confirm(address, { id: 'window', owner });
    expect(await selection.hold(address, aHold('endless', 1_000))).toMatchObject({ granted: false });
    const within = { startMs: span.startMs, endMs: span.startMs + 60_000 };
    const draw = aHold('draw', 4_000, { span: within, reservation: 'window' });
    expect(await selection.hold(address, draw)).toMatchObject({ granted: true });
    const early = aHold('early', 4_000, { reservation: 'window' });
    expect(await selection.hold(address, early)).toEqual({
      granted: false,
      reason: 'Reservation window does not cover the time asked for',
    });
    await selection.release(address, { id: 'draw', owner });
    await selection.release(address, { id: 'window', owner });
  });

  test.each<[string, Partial<HoldRequest>, string]>([
    ['a negative amount', { demand: { cpu: -1 } }, 'demand.cpu: must be a whole number'],
    ['an id that is no label', { id: 'Job_1' }, 'id: "Job_1" is no name'],
    ['a virtual organization that is no label', { virtualOrganization: '../x' }, 'virtualOrganization: "../x"'],
    ['too long a time', { ttlMs: 300_001 }, 'ttlMs: must be 1 to 300000'],
  ])('a hold with %s is refused by field', async (_, fields, message) => {
    const { address } = await find('small');
    const refused = world().selection.hold(address, aHold('bad', 1, fields));
    await expect(refused).rejects.toThrow(InvalidInputError);
    await expect(world().selection.hold(address, aHold('bad', 1, fields))).rejects.toThrow(message);
  });

  test('a watcher hears what is so now, and at once when a hold breaks its predicate', async () => {
    const { selection } = world();
    const { address } = await find('small');
    const abort = new AbortController();
    const updates = selection.watch(address, ['free.cpu >= 2000'], abort.signal)[Symbol.asyncIterator]();
    expect((await updates.next()).value).toMatchObject({ free: { cpu: 4_000 }, broken: undefined });
    await selection.hold(address, aHold('filling', 3_000));
    expect((await updates.next()).value).toMatchObject({
      free: { cpu: 1_000 },
      broken: 'Not so now: free.cpu >= 2000',
    });
    await selection.release(address, { id: 'filling', owner });
    abort.abort();
    await updates.return?.(undefined);
  });

  test('where nobody answers, the error says that trying again may help', async () => {
    const { selection, deadAddress } = world();
    await expect(selection.hold(deadAddress, aHold('h', 1))).rejects.toThrow(SelectorUnavailableError);
    await expect(selection.release(deadAddress, { id: 'h', owner })).rejects.toThrow(SelectorUnavailableError);
  });
}
