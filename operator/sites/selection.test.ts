import { beforeEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { MemoryPeers } from '#operator/gateway/peers/testing/memory.ts';
import { Explorer, selectionRequest } from '#operator/gateway/selection.ts';
import { ask, type Found } from '#operator/scheduling/ask.ts';
import { readRefusal } from '#operator/scheduling/refusals.ts';
import { type Query, SelectorUnavailableError, UnknownClaimError } from '#proto/selector/contract.ts';
import { FakeResourceSelection } from '#proto/selector/testing/fake.ts';
import { SitesSelection } from './selection.ts';
import { HostedSelection } from './selection-service.ts';

const attributes = { arch: 'amd64' };
const allocatable = { cpu: 4000, memory: 2 ** 33 };
let peers: MemoryPeers;
let far: FakeResourceSelection;
let hosted: HostedSelection;
let selection: SitesSelection;
let shared: Set<string>;
/** What nodes of the peer have promised to reservations, as `site/organization/claim`. */
let claimed: Set<string>;

beforeEach(() => {
  peers = new MemoryPeers();
  peers.join('local', 'far');
  far = new FakeResourceSelection(systemClock, [{ name: 'f1', attributes, allocatable }]);
  shared = new Set(['local/physics', 'far/physics']);
  claimed = new Set();
  const isOf = (...words: string[]): boolean => claimed.has(words.join('/'));
  const agreed = { has: (site: string, organization: string) => shared.has(`${site}/${organization}`) };
  hosted = new HostedSelection(far, agreed, { isOf }, systemClock);
  peers.site('far').add(hosted.methods());
  const local = new FakeResourceSelection(systemClock, [{ name: 'h1', attributes, allocatable }]);
  const channels = peers.site('local');
  selection = new SitesSelection({ local, channels, shared: agreed, siteName: 'local', clock: systemClock });
});

const query: Query = {
  ...{ id: 'q', constraints: [], predicates: [], demand: { cpu: 1000 }, virtualOrganization: 'physics' },
};
const found = async (more: Partial<Query> = {}): Promise<Found> =>
  ask(selection, { ...query, ...more }, { wanted: 10, timeoutMs: 2_000 });
const namesOf = ({ offers }: Found): string[] => offers.map(({ node }) => node).sort();

describe('nodes of all sites', () => {
  test('are offered, those of peers without their addresses', async () => {
    const all = await found();
    expect(namesOf(all)).toEqual(['f1', 'h1']);
    const offer = all.offers.find(({ node }) => node === 'f1');
    expect(offer).toMatchObject({ site: 'far', id: 'far/f1', address: 'f1@far' });
    expect(JSON.stringify(offer)).not.toContain('7946');
  });

  test.each([
    ['those that are asked for', { sites: { in: ['far'] } }, ['f1']],
    ['those that are not left out', { sites: { notIn: ['far'] } }, ['h1']],
    ['this one, for what is not shared', { virtualOrganization: 'biology' }, ['h1']],
  ])('are of %s', async (_, more, expected) => {
    expect(namesOf(await found(more))).toEqual(expected);
  });

  test('are no fewer when a peer refuses or is away: that is a reason, with its site', async () => {
    shared.delete('local/physics');
    const refused = await found();
    expect(namesOf(refused)).toEqual(['h1']);
    const [counted = ''] = Object.keys(refused.refusals);
    expect(readRefusal(counted, 'local')).toMatchObject({
      site: 'far',
      reason: expect.stringContaining('does not share "physics"'),
    });
    shared.add('local/physics');
    peers.site('far').isSevered = true;
    expect(namesOf(await found())).toEqual(['h1']);
    const explorer = new Explorer(selection, 'local', systemClock);
    const { nodes, isWhole } = await explorer.explore('physics', selectionRequest.parse({}));
    expect({ nodes: nodes.map(({ site }) => site), isWhole }).toEqual({ nodes: ['local'], isWhole: true });
  });

  test('are shown to members with their sites, and why others are not', async () => {
    const explorer = new Explorer(selection, 'local', systemClock);
    const seen = await explorer.explore('physics', selectionRequest.parse({}));
    expect(seen.nodes.map(({ site, node, fits }) => [site, node, fits])).toContainEqual(['far', 'f1', 40]);
    const none = await explorer.explore('physics', selectionRequest.parse({ resources: { cpu: 5 } }));
    expect(none.nodes).toEqual([]);
    expect(none.refusals.map(({ reason }) => reason.startsWith('far: '))).toEqual(
      expect.arrayContaining([true, false]),
    );
  });
});

describe('a node of a peer', () => {
  const hold = { id: 'hold-1', owner: 'me', virtualOrganization: 'physics', demand: { cpu: 3000 }, ttlMs: 10_000 };

  test('promises its room through the gateway, once, and to that peer', async () => {
    expect(await selection.hold('f1@far', hold)).toMatchObject({ granted: false });
    await found();
    expect(await selection.hold('f1@far', hold)).toEqual({ granted: true, ttlMs: 10_000 });
    expect(hosted.isPromised('local', 'hold-1', 'f1', 'physics')).toBe(true);
    expect(hosted.isPromised('paris', 'hold-1', 'f1', 'physics')).toBe(false);
    expect(await selection.hold('f1@far', { ...hold, id: 'hold-2' })).toMatchObject({ granted: false });
    await selection.release('f1@far', { id: 'hold-1', owner: 'me' });
    expect(hosted.isPromised('local', 'hold-1', 'f1', 'physics')).toBe(false);
    expect(await selection.hold('f1@far', { ...hold, id: 'hold-2' })).toMatchObject({ granted: true });
  });

  describe('keeps slots of a reservation of that peer', () => {
    const span = { startMs: Date.now() - 1_000, endMs: Date.now() + 3_600_000 };
    const slots = { ...hold, id: 'slots', isReservation: true, span };

    test('once they are confirmed, which works while the hold lasts and for who has it', async () => {
      await found();
      await expect(selection.confirm('f1@far', { id: 'slots', owner: 'me' })).rejects.toThrow(UnknownClaimError);
      expect(await selection.hold('f1@far', slots)).toMatchObject({ granted: true });
      await selection.confirm('f1@far', { id: 'slots', owner: 'me' });
      const [kept] = far.ledgerOf('f1').claims();
      expect(kept).toMatchObject({ stage: 'Confirmed', claim: { owner: 'peer:local', isReservation: true, span } });
      peers.site('far').isSevered = true;
      await expect(selection.confirm('f1@far', { id: 'slots', owner: 'me' })).rejects.toThrow(SelectorUnavailableError);
    });

    test('and lets nobody else draw from them', async () => {
      await found();
      await selection.hold('f1@far', slots);
      await selection.confirm('f1@far', { id: 'slots', owner: 'me' });
      const drawn = { ...hold, id: 'task', demand: { cpu: 1_000 }, reservation: 'slots' };
      claimed.add('paris/physics/slots');
      expect(await selection.hold('f1@far', drawn)).toMatchObject({
        granted: false,
        reason: expect.stringContaining("Reservation slots is not there, or another site's"),
      });
      claimed.add('local/physics/slots');
      expect(await selection.hold('f1@far', { ...drawn, span: { ...span, startMs: 0 } })).toMatchObject({
        granted: true,
      });
    });
  });
});
