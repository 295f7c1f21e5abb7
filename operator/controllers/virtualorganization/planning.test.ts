import { describe, expect, test } from '@jest/globals';
import { siteDefinition, type Site } from '#crds/site.ts';
import { aLocalSite, aNode, aVirtualOrganization } from '#operator/testing/builders.ts';
import type { Node } from '#runtime/builtin.ts';
import { readAcceptance } from './acceptance.ts';
import { formatRange, parseRange } from './address-range.ts';
import { decideRequest } from './governance.ts';
import { isolationFactsOf, planIsolation } from './isolation.ts';
import { planNetwork, reservedRanges } from './network.ts';
import { closedQuota, planLimitRange, planQuota } from './quota.ts';
import { desiredNamespace, desiredObjects, isOwnedBy, matches, ownersOf } from './tenancy.ts';

const local = (fields: object): Site => ({
  ...aLocalSite('home'),
  spec: siteDefinition.spec.parse({ type: 'Local', local: fields }),
});

describe('the word of the site', () => {
  const vo = aVirtualOrganization('physics');
  test.each([
    ['accepts what it lists', local({ acceptedVirtualOrganizations: [{ name: 'physics' }] }), false, 'AcceptedBySite'],
    ['accepts nothing by default', local({}), false, 'NotAccepted'],
    ['cuts what it had accepted', local({}), true, 'Cut'],
    ['is needed', undefined, true, 'NoLocalSite'],
  ])('%s', (_, site, wasAccepted, reason) => {
    expect(readAcceptance(vo, site, 'home', wasAccepted)).toMatchObject({
      reason,
      isAccepted: reason === 'AcceptedBySite',
    });
  });

  const followed = {
    conditions: [
      {
        type: 'StatePublished',
        status: 'True',
        reason: 'Followed',
        message: '',
        lastTransitionTime: '2026-01-01T00:00:00Z',
      },
    ],
  } as const;
  test.each<[string, string | undefined, string | undefined, object | undefined, string]>([
    ['is taken once it is followed', 'lyon', 'lyon', followed, 'AcceptedBySite'],
    ['is not taken before', 'lyon', 'lyon', undefined, 'HomeElsewhere'],
    ['is not taken from another home', 'sophia', 'lyon', followed, 'HomeElsewhere'],
    ['is not taken when one of this site is meant', 'lyon', undefined, followed, 'HomeElsewhere'],
    ['formed here is not taken when one of another home is meant', undefined, 'lyon', undefined, 'HomeElsewhere'],
    ['that names this site as its home is one of this site', 'home', undefined, undefined, 'AcceptedBySite'],
  ])('on one of another site: it %s', (_, homeSite, home, status, reason) => {
    const entry = { name: 'physics', ...(home === undefined ? {} : { home }) };
    const far = aVirtualOrganization('physics', homeSite === undefined ? {} : { homeSite }, status);
    const site = local({ acceptedVirtualOrganizations: [entry] });
    expect(readAcceptance(far, site, 'home', false)).toMatchObject({ isAccepted: reason === 'AcceptedBySite', reason });
  });
});

describe('the quota', () => {
  test.each([
    ['takes what the virtual organization gives itself', { cpu: 4 }, undefined, { 'requests.cpu': '4' }],
    ['takes what the site grants', {}, { cpu: '2' }, { 'requests.cpu': '2' }],
    ['takes the smaller, however it is written', { cpu: '1500m' }, { cpu: 2 }, { 'requests.cpu': '1500m' }],
    [
      'never lets the virtual organization exceed the site',
      { memory: '1Ti' },
      { memory: '1Gi' },
      { 'requests.memory': '1Gi', 'limits.memory': '1Gi' },
    ],
    ['counts jobs', { jobs: 10 }, { jobs: 3 }, { 'count/jobs.batch': '3' }],
    ['bounds the number of pods in any case', {}, undefined, { pods: '5k' }],
  ])('%s', (_, own, site, expected) => {
    expect(planQuota(own, site)).toMatchObject(expected);
  });

  test('closed leaves nothing to start with', () => {
    for (const name of ['pods', 'requests.cpu', 'requests.memory', 'requests.storage', 'count/jobs.batch'])
      expect(closedQuota[name]).toBe('0');
  });

  test('gives containers that say nothing no more than there is', () => {
    expect(planLimitRange({ cpu: '50m', memory: '64Mi' }, undefined)).toEqual([
      {
        type: 'Container',
        default: { cpu: '50m', memory: '64Mi' },
        defaultRequest: { cpu: '50m', memory: '64Mi' },
        max: { cpu: '50m', memory: '64Mi' },
      },
    ]);
    expect(planLimitRange({}, undefined)[0]).not.toHaveProperty('max');
  });
});

describe('the isolation', () => {
  const facts = { hasUserNamespaces: true, hasRuntimeClass: true, dedicatedNodes: 1 };
  const plan = (spec: object, offer: string[], has: Partial<typeof facts> = {}) => {
    const site = local({
      acceptedVirtualOrganizations: [{ name: 'physics' }],
      isolation: offer,
      sandboxRuntimeClass: 'kata',
    });
    const vo = aVirtualOrganization('physics', spec as never);
    return planIsolation(vo, readAcceptance(vo, site, 'home', false), { ...facts, ...has });
  };
  const atLeast = (minimum: string, uidMode = 'Global') => ({ isolation: { minimum }, identity: { uidMode } });

  test.each([
    [
      'the weakest that suffices',
      atLeast('Namespace'),
      ['DedicatedNode', 'Namespace'],
      {},
      { level: 'Namespace', needsUserNamespace: false },
    ],
    [
      'a stronger one when the demanded one is not offered',
      atLeast('UserNamespace'),
      ['Namespace', 'Sandbox'],
      {},
      { level: 'Sandbox', runtimeClass: 'kata' },
    ],
    [
      'user namespaces',
      atLeast('UserNamespace', 'Local'),
      ['UserNamespace'],
      {},
      { level: 'UserNamespace', needsUserNamespace: true },
    ],
    [
      'user namespaces when ids are local',
      { identity: { uidMode: 'Local' } },
      ['Namespace'],
      {},
      { level: 'Namespace', needsUserNamespace: true },
    ],
    [
      'no level below the demanded one',
      atLeast('Sandbox'),
      ['Namespace', 'UserNamespace'],
      {},
      { isPossible: false, reason: 'IsolationNotOffered' },
    ],
    [
      'never user namespaces for ids that they do not hold',
      atLeast('Namespace'),
      ['UserNamespace', 'Sandbox'],
      {},
      { level: 'Sandbox', needsUserNamespace: false },
    ],
    [
      'no user namespaces that nodes lack',
      atLeast('UserNamespace', 'Local'),
      ['UserNamespace'],
      { hasUserNamespaces: false },
      { isPossible: false, reason: 'IsolationUnavailable' },
    ],
    [
      'no sandbox without its RuntimeClass',
      atLeast('Sandbox'),
      ['Sandbox'],
      { hasRuntimeClass: false },
      { isPossible: false, reason: 'IsolationUnavailable' },
    ],
    [
      'no own nodes that nobody gave',
      atLeast('DedicatedNode'),
      ['DedicatedNode'],
      { dedicatedNodes: 0 },
      { isPossible: false, reason: 'IsolationUnavailable' },
    ],
  ])('is %s', (_, spec, offer, has, expected) => {
    expect(plan(spec, offer, has)).toMatchObject(expected);
  });

  describe('where NetworkPolicy is not enforced (threat 13)', () => {
    const site = (reason: string, networkIsolation: string): Site => {
      const message = 'as the test of the operator found';
      const lastTransitionTime = '2026-01-01T00:00:00Z';
      const condition = { type: 'NetworkIsolated', status: 'False', reason, message, lastTransitionTime } as const;
      const accepted = local({ acceptedVirtualOrganizations: [{ name: 'physics' }], networkIsolation });
      return { ...accepted, status: { conditions: [condition] } };
    };
    const planAt = (reason: string, offer: string) => {
      const vo = aVirtualOrganization('physics');
      return planIsolation(vo, readAcceptance(vo, site(reason, offer), 'home', false), facts);
    };

    test('is none, and says what helps', () => {
      const found = planAt('NotEnforced', 'Offered');
      expect(found).toMatchObject({ isPossible: false, reason: 'NetworkNotIsolated' });
      expect(found).toHaveProperty('message', expect.stringMatching(/NetworkPolicy.*networkIsolation: NotOffered/));
    });

    test.each([
      ['its owner accepts it', 'NotEnforced', 'NotOffered'],
      ['that is not known', 'Inconclusive', 'Offered'],
      ['it was not tested yet', 'NotTested', 'Offered'],
    ])('is what it is otherwise when %s', (_, reason, offer) => {
      expect(planAt(reason, offer)).toMatchObject({ isPossible: true, level: 'Namespace' });
    });
  });

  test('counts a node as dedicated only with label and taint, so that nobody else is on it', () => {
    const node = (label: boolean, effect?: string): Node => ({
      ...aNode('n'),
      metadata: { name: 'n', labels: label ? { 'xtreemos.io/dedicated-to': 'physics' } : {} },
      spec: effect === undefined ? {} : { taints: [{ key: 'xtreemos.io/dedicated-to', value: 'physics', effect }] },
    });
    const count = (each: Node) => isolationFactsOf([each], 'physics', false).dedicatedNodes;
    expect(
      [node(true, 'NoSchedule'), node(true), node(false, 'NoSchedule'), node(true, 'PreferNoSchedule')].map(count),
    ).toEqual([1, 0, 0, 0]);
  });
});

describe('the network (threat 13)', () => {
  const node: Node = {
    ...aNode('n1'),
    spec: { podCIDRs: ['10.244.1.0/24'] },
    status: {
      addresses: [
        { type: 'InternalIP', address: '192.168.7.11' },
        { type: 'Hostname', address: 'n1' },
      ],
    },
  };
  const reserved = reservedRanges([node], ['192.168.7.10']);
  const gateway = { namespace: 'xtreemos-system', port: 7443 };
  const plan = (network: object) => planNetwork(aVirtualOrganization('physics', { network }), reserved, gateway);

  test('is closed both ways but for DNS, and for the gateway where a task has a token for it', () => {
    const { policies } = plan({});
    expect(policies.map(({ name }) => name)).toEqual(['default-deny', 'allow-dns', 'grid-access']);
    const labels = { 'kubernetes.io/metadata.name': 'xtreemos-system' };
    expect(policies[2]?.spec).toEqual({
      podSelector: { matchLabels: { 'xtreemos.io/grid-access': 'true' } },
      policyTypes: ['Egress'],
      egress: [
        {
          to: [
            {
              namespaceSelector: { matchLabels: labels },
              podSelector: { matchLabels: { 'app.kubernetes.io/name': 'xtreemos' } },
            },
          ],
          ports: [{ port: 7443, protocol: 'TCP' }],
        },
      ],
    });
    expect(policies[0]?.spec).toEqual({ podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
    for (const peer of policies[1]?.spec.egress?.[0]?.to ?? [])
      expect(JSON.stringify(peer)).toMatch(/kube-dns|169.254.20.10/);
  });

  test('opens what is declared, without the addresses of the site itself', () => {
    const { policies, refused } = plan({
      internal: true,
      egress: [
        { name: 'world', cidr: '0.0.0.0/0', ports: [{ port: 443 }] },
        { name: 'mirror', cidr: '192.0.2.0/24' },
      ],
    });
    expect(refused).toEqual([]);
    const rules = policies.find(({ name }) => name === 'declared-egress')?.spec.egress ?? [];
    const except = rules[0]?.to?.[0]?.ipBlock?.except ?? [];
    for (const address of ['169.254.169.254', '192.168.7.11', '192.168.7.10', '10.244.1.7', '127.0.0.1'])
      expect(except.some((range) => covers(range, address))).toBe(true);
    expect(rules[1]).toEqual({ to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] });
    expect(policies.map(({ name }) => name)).toContain('allow-internal');
  });

  test.each([
    '169.254.169.254/32',
    '192.168.7.11/32',
    '192.168.7.10/32',
    '10.244.1.0/25',
    'fd00:ec2::254/128',
    '127.0.0.0/8',
  ])('refuses to open %s, and says so', (cidr) => {
    const { policies, refused } = plan({ egress: [{ name: 'inside', cidr }] });
    expect(refused).toEqual(['inside']);
    expect(policies.map(({ name }) => name)).toEqual(['default-deny', 'allow-dns', 'grid-access']);
  });

  test('stays bounded on a site of thousands of nodes, and closed for each of them', () => {
    const nodes = Array.from({ length: 4000 }, (_, i): Node => ({
      ...aNode(`n${i}`),
      spec: { podCIDRs: [`10.${i >> 8}.${i & 255}.0/24`] },
      status: { addresses: [{ type: 'InternalIP', address: `172.16.${((i * 7) >> 8) & 255}.${(i * 13) & 255}` }] },
    }));
    const ranges = reservedRanges(nodes, []);
    expect(ranges.length).toBeLessThanOrEqual(128);
    for (const each of nodes) {
      expect(ranges.some((range) => covers(formatRange(range), each.status?.addresses?.[0]?.address ?? ''))).toBe(true);
    }
  });
});

function covers(range: string, address: string): boolean {
  const outer = parseRange(range);
  const inner = parseRange(address);
  return formatRange(parseRange(`${address}/${outer.prefix}`)) === formatRange(outer) && inner.family === outer.family;
}

describe('governance (threat 67)', () => {
  const [alice, bob] = ['alice', 'bob'].map((subject) => ({ issuer: 'kubernetes:home', subject }));
  const vo = (governance: object) => aVirtualOrganization('physics', { administrators: [alice, bob], governance });
  const names = new Map([
    ['alice', alice],
    ['u-alice-2013266944', alice],
    ['bob', bob],
  ]);
  const facts = { resolve: (name: string) => names.get(name) as never, since: 0, now: 0 };
  const both = { secondAdministrator: true, delaySeconds: 0 };

  test.each([
    ['one administrator suffices where nothing is demanded', {}, {}, 'granted'],
    ['two administrators agree', both, { requestedBy: 'alice', approvedBy: 'bob' }, 'granted'],
    ['nobody approved', both, { requestedBy: 'alice' }, 'refused'],
    ['nobody is recorded as asking', both, { approvedBy: 'bob' }, 'refused'],
    ['a stranger approved', both, { requestedBy: 'alice', approvedBy: 'mallory' }, 'refused'],
    ['a stranger asked', both, { requestedBy: 'mallory', approvedBy: 'bob' }, 'refused'],
    ['one person used two names', both, { requestedBy: 'alice', approvedBy: 'u-alice-2013266944' }, 'refused'],
    ['the delay runs', { delaySeconds: 60 }, {}, 'waiting'],
  ])('%s', (_, governance, request, kind) => {
    expect(decideRequest(vo(governance), request, facts).kind).toBe(kind);
  });

  test('grants exactly when the delay is over, and says when', () => {
    const held = vo({ delaySeconds: 60 });
    expect(decideRequest(held, {}, { ...facts, now: 59_999 })).toMatchObject({ kind: 'waiting', remainingMs: 1 });
    expect(decideRequest(held, {}, { ...facts, now: 60_000 })).toEqual({ kind: 'granted' });
  });
});

describe('the objects', () => {
  const vo = aVirtualOrganization('physics');
  const isolation = {
    isPossible: true,
    level: 'Namespace',
    needsUserNamespace: false,
    runtimeClass: undefined,
  } as const;
  const plan = { vo, isolation, policies: [], quota: closedQuota, limits: [], owners: [] };

  test('a namespace belongs to the virtual organization by uid, not by name or label (threat 68)', () => {
    const { object } = desiredNamespace(plan);
    expect(isOwnedBy(object, vo)).toBe(true);
    const other = { ...vo, metadata: { ...vo.metadata, uid: 'another' } };
    expect(isOwnedBy(object, other)).toBe(false);
    expect(isOwnedBy({ metadata: { ...object.metadata, ownerReferences: [] } }, vo)).toBe(false);
  });

  test('close the doors before they give rights', () => {
    const kinds = desiredObjects({ ...plan, policies: [{ name: 'default-deny', spec: {} }] }).map(
      ({ kind }) => kind.kind,
    );
    expect(kinds.indexOf('NetworkPolicy')).toBeLessThan(kinds.indexOf('RoleBinding'));
    expect(kinds.indexOf('ResourceQuota')).toBeLessThan(kinds.indexOf('RoleBinding'));
  });

  test('name owners as this cluster knows them: users of its own, members by their account', () => {
    const administrators = [
      { issuer: 'kubernetes:home', subject: 'alice' },
      { issuer: 'kubernetes:lyon', subject: 'bob' },
      { issuer: 'https://idp.example.org', subject: '42' },
    ];
    const several = aVirtualOrganization('physics', { administrators });
    const owners = ownersOf(several, 'home', ({ subject }) => (subject === '42' ? 'u-carol-2013266944' : undefined));
    expect(owners).toEqual([
      { kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: 'alice' },
      { kind: 'ServiceAccount', name: 'u-carol-2013266944', namespace: 'vo-physics' },
    ]);
  });

  test.each([
    ['equal objects', { a: [1, { b: 2 }] }, { a: [1, { b: 2 }] }, true],
    ['defaults beside', { a: 1, b: 2 }, { a: 1 }, true],
    ['a longer list', { a: [1, 2] }, { a: [1] }, false],
    ['another value', { a: 1 }, { a: 2 }, false],
    ['something absent', {}, { a: 1 }, false],
    ['nothing wanted', undefined, { a: undefined }, true],
  ])('compares %s', (_, actual, desired, expected) => {
    expect(matches(actual, desired)).toBe(expected);
  });
});
