import { describe, expect, test } from '@jest/globals';
import { siteDefinition, type Site, type SiteStatus } from '#crds/site.ts';
import { aLocalSite, aNode, aPeerSite } from '#operator/testing/builders.ts';
import type { Node } from '#runtime/builtin.ts';
import { roleOf, summarizeNodes } from './phases.ts';
import type { PeerView } from '#operator/gateway/peers/peer-states.ts';
import type { NetworkVerdict } from './network/progress.ts';
import { computeStatus, heartbeatRemainingMs, isStatusChanged, networkCondition, type SiteScope } from './status.ts';

const start = Date.UTC(2026, 0, 1);
const second = 1000;

function aScope(site: Site, nodes: readonly Node[], now = start, peer?: PeerView): SiteScope {
  return {
    site,
    role: roleOf(site, 'home'),
    nodes: summarizeNodes(nodes),
    kubernetesVersion: 'v1.36.3',
    xtreemosVersion: '0.1.0',
    peer,
    network: undefined,
    localName: 'home',
    now,
    heartbeatMs: 60 * second,
  };
}

const reasons = (status: SiteStatus): string[] =>
  (status.conditions ?? []).map((condition) => `${condition.type}=${condition.status}: ${condition.reason}`);

const untested = 'NetworkIsolated=Unknown: NotTested';

describe('the status of the local Site', () => {
  test.each<[string, Node[], string[]]>([
    [
      'is Ready when every node is',
      [aNode('a'), aNode('b')],
      ['Ready=True: NodesAvailable', 'NodesReady=True: AllNodesReady', untested],
    ],
    [
      'stays Ready while one node of two is away',
      [aNode('a'), aNode('b', { isReady: false })],
      ['Ready=True: NodesAvailable', 'NodesReady=False: SomeNodesNotReady', untested],
    ],
    [
      'is not Ready when every node is cordoned',
      [aNode('a', { isCordoned: true })],
      ['Ready=False: NoNodesAvailable', 'NodesReady=False: NoNodesReady', untested],
    ],
    ['is not Ready without nodes', [], ['Ready=False: NoNodesAvailable', 'NodesReady=False: NoNodes', untested]],
  ])('%s', (_, nodes, expected) => {
    expect(reasons(computeStatus(aScope(aLocalSite('home'), nodes)))).toEqual(expected);
  });

  test('is within the schema of the kind', () => {
    const status = computeStatus(aScope(aLocalSite('home'), [aNode('a'), aNode('b', { isReady: false })]));
    expect(siteDefinition.status.safeParse(status)).toMatchObject({ success: true });
    expect(status).toMatchObject({
      observedGeneration: 3,
      nodes: { count: 2, ready: 1 },
      capacity: { cpu: '8' },
      allocatable: { cpu: '4' },
      kubernetesVersion: 'v1.36.3',
      xtreemosVersion: '0.1.0',
      lastSeenTime: '2026-01-01T00:00:00Z',
    });
  });

  test('names the nodes that are away, a few at most', () => {
    const nodes = Array.from({ length: 9 }, (_, index) => aNode(`n${index}`, { isReady: false }));
    const status = computeStatus(aScope(aLocalSite('home'), nodes));
    expect(status.conditions?.[1]?.message).toBe('Not ready or not schedulable: n0, n1, n2, n3, n4 and more.');
  });

  test('computed again it changes nothing, whatever the order of nodes, until the heartbeat is due', () => {
    const nodes = [aNode('a'), aNode('b', { isReady: false })];
    const first = computeStatus(aScope(aLocalSite('home'), nodes));
    const again = (now: number): SiteStatus =>
      computeStatus(aScope(aLocalSite('home', structuredClone(first)), [...nodes].reverse(), now));
    expect(isStatusChanged(first, again(start + 59 * second))).toBe(false);
    expect(again(start + 60 * second).lastSeenTime).toBe('2026-01-01T00:01:00Z');
  });

  test('the time of a condition moves with its status only, not with its reason', () => {
    const first = computeStatus(aScope(aLocalSite('home'), [aNode('a', { isReady: false })]));
    const later = computeStatus(aScope(aLocalSite('home', first), [], start + 10 * second));
    expect(later.conditions?.map((condition) => condition.lastTransitionTime)).toEqual([
      '2026-01-01T00:00:00Z',
      '2026-01-01T00:00:00Z',
      '2026-01-01T00:00:00Z',
    ]);
    const back = computeStatus(aScope(aLocalSite('home', later), [aNode('a')], start + 20 * second));
    expect(back.conditions?.[0]?.lastTransitionTime).toBe('2026-01-01T00:00:20Z');
  });
});

describe('what is found out about the network (threat 13)', () => {
  const enforced: NetworkVerdict = { kind: 'Enforced' };
  const ignored: NetworkVerdict = { kind: 'NotEnforced', denied: 'listener' };
  const unclear: NetworkVerdict = { kind: 'Inconclusive', message: 'No room for a pod.' };
  type Found = readonly [verdict: NetworkVerdict | undefined, offer: 'Offered' | 'NotOffered'];

  /** The status after one finding after another. */
  const after = (...found: readonly Found[]): SiteStatus =>
    found.reduce<SiteStatus>((before, [network, networkIsolation]) => {
      const site = { ...aLocalSite('home', before), spec: specOf(networkIsolation) };
      return computeStatus({ ...aScope(site, [aNode('a')]), network });
    }, {});
  const specOf = (networkIsolation: string): Site['spec'] =>
    siteDefinition.spec.parse({ type: 'Local', local: { networkIsolation } });

  test.each<[string, Found[], string]>([
    ['is not known before the first test', [[undefined, 'Offered']], 'Unknown: NotTested'],
    ['is closed after a test that shows it', [[enforced, 'Offered']], 'True: Enforced'],
    ['is open after a test that shows it', [[ignored, 'Offered']], 'False: NotEnforced'],
    ['is not known after a test that shows nothing', [[unclear, 'Offered']], 'Unknown: Inconclusive'],
    [
      'stays closed when the operator starts again',
      [
        [enforced, 'Offered'],
        [undefined, 'Offered'],
      ],
      'True: Enforced',
    ],
    [
      'stays open when the operator starts again, and when a test then shows nothing',
      [
        [ignored, 'Offered'],
        [undefined, 'Offered'],
        [unclear, 'Offered'],
      ],
      'False: NotEnforced',
    ],
    [
      'is closed again after a test that shows it',
      [
        [ignored, 'Offered'],
        [enforced, 'Offered'],
      ],
      'True: Enforced',
    ],
    [
      'is no longer known to be closed after a test that shows nothing',
      [
        [enforced, 'Offered'],
        [unclear, 'Offered'],
      ],
      'Unknown: Inconclusive',
    ],
    ['is what the owner of the site says who does not offer it', [[enforced, 'NotOffered']], 'False: NotOffered'],
    [
      'is not known when the owner offers it again',
      [
        [undefined, 'NotOffered'],
        [undefined, 'Offered'],
      ],
      'Unknown: NotTested',
    ],
    [
      'is what was found last when the owner offers it again',
      [
        [ignored, 'NotOffered'],
        [ignored, 'Offered'],
      ],
      'False: NotEnforced',
    ],
  ])('%s', (_, found, expected) => {
    const status = after(...found);
    expect(reasons(status)).toContain(`NetworkIsolated=${expected}`);
    expect(siteDefinition.status.safeParse(status)).toMatchObject({ success: true });
    const { type, reason, message } = networkCondition(status)!;
    expect(Object.keys(siteDefinition.conditions.find((each) => each.type === type)?.surfaces ?? {})).toContain(reason);
    if (reason === 'NotEnforced') expect(message).toMatch(/Install a network plug-in.*networkIsolation: NotOffered/);
    if (reason === 'Inconclusive') expect(message).toContain('No room for a pod.');
  });
});

describe('the status of another Site', () => {
  test.each<[string, Site, string]>([
    ['a second local site says which one is local', aLocalSite('second'), 'NotThisSite'],
    ['a peer under the name of the local site says so', aPeerSite('home'), 'NameTaken'],
  ])('%s', (_, site, reason) => {
    const status = computeStatus(aScope(site, [aNode('a')]));
    const ready = status.conditions?.find((condition) => condition.type === 'Ready');
    expect(ready).toMatchObject({ status: 'False', reason });
    expect(ready?.message).toMatch(/delete this/);
    expect(status).not.toHaveProperty('nodes');
    expect(siteDefinition.status.safeParse(status)).toMatchObject({ success: true });
  });

  const seen = { seenMs: start, version: '1.2.3', nodes: 3, nodesReady: 2, message: '' };

  test.each<[string, PeerView | undefined, string[]]>([
    ['was not greeted yet', undefined, ['Ready=Unknown: Connecting', 'NodesReady=Unknown: PeerAway']],
    ['answers', { ...seen, state: 'Connected' }, ['Ready=True: Connected', 'NodesReady=False: SomeNodesNotReady']],
    [
      'is silent',
      { ...seen, state: 'Unreachable', message: 'no answer' },
      ['Ready=False: Unreachable', 'NodesReady=Unknown: PeerAway'],
    ],
    ['refuses', { ...seen, state: 'Refused', message: 'no' }, ['Ready=False: Refused', 'NodesReady=Unknown: PeerAway']],
  ])('of a peer that %s', (_, view, expected) => {
    const status = computeStatus(aScope(aPeerSite('far'), [aNode('a')], start, view));
    expect(reasons(status)).toEqual(expected);
    expect(siteDefinition.status.safeParse(status)).toMatchObject({ success: true });
    expect(status.nodes).toEqual(view?.state === 'Connected' ? { count: 3, ready: 2 } : undefined);
    if (view !== undefined)
      expect(status).toMatchObject({ lastSeenTime: '2026-01-01T00:00:00Z', xtreemosVersion: '1.2.3' });
  });

  test('a peer that is cut off says so, whatever was heard of it', () => {
    const site = aPeerSite('far');
    const spec = siteDefinition.spec.parse(site.spec);
    if (spec.type !== 'Peer') throw new Error('no peer');
    const cut: Site = { ...site, spec: { ...spec, peer: { ...spec.peer, connection: 'Cut' } } };
    const status = computeStatus(aScope(cut, [], start, { ...seen, state: 'Connected' }));
    expect(reasons(status)).toContain('Ready=False: Cut');
  });

  test('every reason that is used is documented', () => {
    const sites = [aLocalSite('home'), aLocalSite('second'), aPeerSite('far'), aPeerSite('home')];
    const worlds = [[], [aNode('a')], [aNode('a'), aNode('b', { isReady: false })], [aNode('a', { isReady: false })]];
    for (const site of sites) {
      for (const nodes of worlds) {
        for (const condition of computeStatus(aScope(site, nodes)).conditions ?? []) {
          const definition = siteDefinition.conditions.find((candidate) => candidate.type === condition.type);
          expect(Object.keys(definition?.surfaces ?? {})).toContain(condition.reason);
        }
      }
    }
  });
});

describe('heartbeatRemainingMs', () => {
  const at = (lastSeenTime: string | undefined, now: number): number =>
    heartbeatRemainingMs(lastSeenTime === undefined ? undefined : { lastSeenTime }, { now, heartbeatMs: 60 * second });

  test.each([
    ['is due when it never was', undefined, 0, 0],
    ['counts down', '2026-01-01T00:00:00Z', 20, 40],
    ['is due at its time', '2026-01-01T00:00:00Z', 60, 0],
    ['is due when the clock was set back', '2026-01-01T01:00:00Z', 0, 0],
    ['is due when the time is no time', 'yesterday', 0, 0],
  ] as const)('%s', (_, last, nowSeconds, expectedSeconds) => {
    expect(at(last, start + nowSeconds * second)).toBe(expectedSeconds * second);
  });
});
