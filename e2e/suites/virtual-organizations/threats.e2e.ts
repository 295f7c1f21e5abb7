/** Attacks on a real site, by members against each other and by anyone against the gateway. Numbers as in docs/security-model.md. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { podAttacks } from '#crds/policies/testing/pod-attacks.ts';
import type { Site } from '#crds/site.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { aVerifier, type GatewayAnswer, GatewayClient } from '#operator/testing/gateway-client.ts';
import type { Stored } from '#runtime/types.ts';
import { loginOf, openSites, type TestSite, type TestSites, waitFor } from '#sites/harness.ts';
import { readCredentials } from '#sites/kubeconfig.ts';
import type { CommandResult } from '#sites/shell.ts';
import { aPod, waitPods } from '#sites/testing.ts';
import { baseEntries, busyboxEntries } from '../../../hack/images/contents.ts';
import { type Login, Product } from '../product.ts';

jest.setTimeout(120_000);

const system = 'suite-threats';
const outside = 'suite-threats-outside';
const gatewayPort = 30_744;
const image = 'xtreemos.io/many-groups:1';
/** Groups that the image says the member is in. */
const imageGroups = [6, 10];

let shared: TestSites;
let product: Product;
let site: TestSite;
let namespace: string;
let gatewayAddress: string;
let alice: Login;
let bob: Login;
/** The whole member, for what is judged by ids. */
let member: Stored<VOMembership>;
/** What must not be seen anywhere. */
const canaries = new Set<string>();

beforeAll(async () => {
  shared = await openSites();
  gatewayAddress = `${shared.sites[0]!.gatewayAddress}:${gatewayPort}`;
  product = await Product.install(system, [
    ...['gateway.service.type=NodePort', `gateway.service.nodePort=${gatewayPort}`],
    `gateway.address=${gatewayAddress}`,
  ]);
  ({ site, namespace } = product);
  await product.formOrganization({
    groups: [{ name: 'analysis' }, { name: 'operations' }],
    administrators: ['root', 'carol'].map((subject) => ({ issuer: 'kubernetes:home', subject })),
  });
  await product.join('alice', { groups: [{ name: 'operations' }] });
  await product.join('bob');
  member = await product.member('alice');
  [alice, bob] = [await product.logIn('alice'), await product.logIn('bob')];
  await site.kubectl(['create', 'namespace', outside]);
  await site.loadRecipes([imageOf(alice.uid)]);
}, 400_000);

afterAll(async () => {
  await site.tryKubectl(['delete', 'namespace', outside, '--wait=false']);
  await product.uninstall();
});

/** An image that puts the member into groups of its own choice. */
function imageOf(uid: number): Parameters<TestSite['loadRecipes']>[0][number] {
  const groups = imageGroups.map((gid) => `g${gid}:x:${gid}:me\n`).join('');
  const base = [...baseEntries(), ...busyboxEntries()].filter(({ path }) => !/^\/etc\/(passwd|group)$/.test(path));
  return {
    name: image,
    layers: [
      [
        ...base,
        { type: 'content', path: '/etc/passwd', content: `me:x:${uid}:${uid}::/:/bin/sh\n` },
        { type: 'content', path: '/etc/group', content: groups },
      ],
    ],
    entrypoint: [],
    command: ['/bin/sh'],
  };
}

const as = async ({ login }: Login, args: readonly string[], input?: object): Promise<CommandResult> =>
  site.tryKubectl([...login, ...args], input === undefined ? {} : { input: JSON.stringify(input) });
const create = async (who: Login, object: object): Promise<CommandResult> => as(who, ['create', '-f', '-'], object);

/** A pod as a member writes it most shortly. */
const pod = (name: string, spec: object = {}, metadata: object = {}): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, ...metadata },
  spec: {
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'main', image, command: ['sh', '-c', 'while :; do sleep 1; done'] }],
    ...spec,
  },
});

describe('a pod that asks for more than its member has', () => {
  const ids = { uid: 0, gid: 0, account: 'a', otherUid: 0, otherAccount: 'b', foreignGid: 0, foreignAccount: 'c' };

  test.each(podAttacks(ids).map(([name], index) => [name, index] as const))('%s', async (_name, index) => {
    const gid = member.status?.gid ?? 0;
    const [, spec, refused] = podAttacks({
      ...{ uid: alice.uid, gid, account: alice.userName, otherUid: bob.uid, otherAccount: bob.userName },
      ...{ foreignGid: gid + 65_536, foreignAccount: `u-dave-${gid + 65_536 + 5_000}` },
    })[index]!;
    const { status, stderr } = await create(alice, pod('mine', spec));
    // Pod Security stands before the policies, and has words of its own.
    const answer = stderr.includes('violates PodSecurity "restricted') ? '' : stderr;
    if (answer !== '') expect(answer).toMatch(refused);
    expect(status).not.toBe(0);
  });

  test('none of them is there', async () => {
    expect((await site.get<{ items: object[] }>('pods', '-n', namespace)).items).toEqual([]);
  });
});

describe('a running pod', () => {
  let hers: string;

  beforeAll(async () => {
    hers = `${alice.userName}-hers`;
    expect(await create(alice, pod(hers))).toMatchObject({ status: 0 });
    await waitPods(site, namespace, hers);
  });

  test('holds no token of the API server (threat 3)', async () => {
    const { status, stdout } = await site.exec(
      ...[namespace, hers],
      'ls -a /var/run/secrets /run/secrets 2>/dev/null; mount | grep -c serviceaccount; find / -xdev -name token 2>/dev/null; cat /proc/1/environ | tr "\\0" "\\n" | grep -i token',
    );
    expect([status, stdout.trim()]).toEqual([1, '0']);
  });

  test('has no group that its image claims for it (threat 5)', async () => {
    const { uid } = alice;
    const claiming = aPod({ name: 'claiming', namespace: outside, image, script: 'sleep 600' }) as { spec: object };
    const securityContext = { runAsNonRoot: true, runAsUser: uid, seccompProfile: { type: 'RuntimeDefault' } };
    await site.apply([{ ...claiming, spec: { ...claiming.spec, securityContext } }]);
    await waitPods(site, outside, 'claiming');
    const claimed = (await site.exec(outside, 'claiming', 'id -G')).stdout.trim().split(' ').map(Number);
    expect(claimed).toEqual(expect.arrayContaining(imageGroups));
    const { gid, gids = [] } = member.status ?? {};
    const real = (await site.exec(namespace, hers, 'id -G')).stdout.trim().split(' ').map(Number);
    expect(new Set(real)).toEqual(new Set([gid, ...gids.map((each) => each.gid)]));
  });

  test.each([
    ['exec', ['exec', '@', '--', 'true']],
    ['attach', ['attach', '@']],
    ['port-forward', ['port-forward', '@', ':8080']],
    ['an ephemeral container', ['debug', '@', '--image=xtreemos.io/busybox:1', '--', 'sh']],
    ['its proxy', ['get', '--raw', '/api/v1/namespaces/NAMESPACE/pods/@:8080/proxy/']],
    ['deletion', ['delete', 'pod', '@']],
    ['a label', ['label', 'pod', '@', 'app=mine']],
    ['another image', ['set', 'image', 'pod/@', 'main=xtreemos.io/busybox:1']],
  ])('is not entered, changed or ended by another member: %s (threat 12)', async (_way, args) => {
    const words = args.map((word) => word.replace('@', hers).replace('NAMESPACE', namespace));
    const { status, stderr } = await as(bob, words);
    expect([status === 0, stderr]).toEqual([
      false,
      expect.stringMatching(/belongs to|not known to be yours|forbidden/),
    ]);
    expect((await site.exec(namespace, hers, 'true')).status).toBe(0);
  });

  test('is entered by its owner, and ended by an administrator (threat 12)', async () => {
    expect((await as(alice, ['exec', hers, '--', 'id', '-u'])).stdout.trim()).toBe(String(alice.uid));
    const other = `${alice.userName}-other`;
    expect(await create(alice, pod(other))).toMatchObject({ status: 0 });
    await waitPods(site, namespace, other);
    const ended = await asUser('carol', ['delete', 'pod', other, '-n', namespace]);
    expect([ended.status, ended.stderr]).toEqual([0, '']);
  });

  test('takes no later privilege: what was judged stays (threats 7, 60)', async () => {
    const at = ['patch', 'pod', hers, '--type=merge'];
    const debug = { name: 'debug', image, securityContext: { privileged: true } };
    const attempts = [
      [...at, '--subresource=ephemeralcontainers', '-p', JSON.stringify({ spec: { ephemeralContainers: [debug] } })],
      [...at, '-p', JSON.stringify({ spec: { tolerations: [{ operator: 'Exists' }] } })],
      [...at, '-p', JSON.stringify({ metadata: { labels: { 'xtreemos.io/owner': bob.userName } } })],
    ];
    for (const args of attempts) expect((await as(alice, args)).status).not.toBe(0);
  });

  test('is not adopted, kept or dressed up as another’s (threats 9, 10)', async () => {
    const owner = { apiVersion: 'v1', kind: 'Pod', name: hers, uid: '00000000-0000-0000-0000-000000000000' };
    for (const metadata of [
      { labels: { 'xtreemos.io/owner': bob.userName } },
      { labels: { 'xtreemos.io/vo': 'chemistry' } },
      { annotations: { 'xtreemos.io/uid': '0' } },
      { ownerReferences: [owner] },
      { finalizers: ['example.org/mine'] },
    ]) {
      const { status, stderr } = await create(alice, pod('spoof', {}, metadata));
      expect([status === 0, stderr]).toEqual([false, expect.stringMatching(/metadata\.\w+|names u-bob/)]);
    }
  });

  test('another like it starts under the same rules while the operator is away (threat 55)', async () => {
    const replicas = async (count: number): Promise<unknown> =>
      site.kubectl(['scale', 'deployment', 'xtreemos', '-n', system, `--replicas=${count}`]);
    await replicas(0);
    try {
      await waitFor('the operator is gone', async () => {
        const operators = ['pods', '-n', system, '-l', 'app.kubernetes.io/component=operator'];
        return (await site.get<{ items: object[] }>(...operators)).items.length === 0;
      });
      const forged = await create(alice, pod('forged', { securityContext: { runAsUser: bob.uid } }));
      expect(forged.stderr).toContain(`runAsUser: ${bob.uid}`);
      const away = `${alice.userName}-away`;
      expect(await create(alice, pod(away))).toMatchObject({ status: 0 });
      await waitPods(site, namespace, away);
      expect((await site.exec(namespace, away, 'id -u')).stdout.trim()).toBe(String(alice.uid));
    } finally {
      await replicas(2);
    }
    await site.kubectl(['rollout', 'status', 'deployment/xtreemos', '-n', system, '--timeout=90s'], {
      timeoutMs: 100_000,
    });
  });
});

/** kubectl as one of the users of the site. */
async function asUser(user: string, args: readonly string[], input?: object): Promise<CommandResult> {
  return site.tryKubectl(
    [...loginOf(shared, site, user), ...args],
    input === undefined ? {} : { input: JSON.stringify(input) },
  );
}

describe('records of members', () => {
  const membership = (name: string, spec: object): object => ({
    ...{ apiVersion: 'xtreemos.io/v1alpha1', kind: 'VOMembership', metadata: { name, namespace } },
    spec: { state: 'Active', ...spec },
  });
  const principal = (subject: string, issuer = 'https://login.example.org'): object => ({
    principal: { issuer, subject },
  });
  const patch = async (name: string, spec: object): Promise<CommandResult> =>
    asUser('carol', ['patch', 'vom', name, '-n', namespace, '--type=merge', '-p', JSON.stringify({ spec })]);

  test('ids are not chosen, nor an account taken over by its number (threats 42, 59)', async () => {
    const { spec } = member;
    expect((await patch('bob', { identity: spec.identity })).status).not.toBe(0);
    expect((await patch('alice', principal('bob'))).stderr).toMatch(/principal/);
    const status = ['patch', 'vom', 'bob', '-n', namespace, '--type=merge', '--subresource=status'];
    const spoof = await asUser('carol', [...status, '-p', JSON.stringify({ status: { uid: alice.uid } })]);
    expect(spoof.stderr).toContain('forbidden');
    expect((await as(bob, ['get', 'secrets'])).stderr).toContain('forbidden');
  });

  test('one name at two issuers is two people, and a record made again is a new one (threats 40, 41)', async () => {
    const made = await asUser(
      'carol',
      ['create', '-f', '-'],
      membership('alice-2', principal('alice', 'https://other.example.org')),
    );
    expect([made.stderr, made.status]).toEqual(['', 0]);
    const first = await product.member('alice-2');
    expect(first.status?.uid).not.toBe(alice.uid);
    await asUser('carol', ['delete', 'vom', 'alice-2', '-n', namespace, '--timeout=60s']);
    await asUser(
      'carol',
      ['create', '-f', '-'],
      membership('alice-2', principal('alice', 'https://other.example.org')),
    );
    const second = await product.member('alice-2');
    expect([first.status?.uid, alice.uid]).not.toContain(second.status?.uid);
  });

  test.each([
    ['a subject of the system', 'system:masters', /subject/],
    ['a name written backwards', 'alice\u202Egnp', /subject/],
    ['a name that looks alike', 'аlice', /subject/],
  ])('%s is no member (threats 15, 41)', async (_what, subject, message) => {
    const answer = await asUser(
      'carol',
      ['create', '-f', '-'],
      membership('strange', principal(subject, 'kubernetes:home')),
    );
    expect([answer.status === 0, answer.stderr]).toEqual([false, expect.stringMatching(message)]);
  });

  test('what is huge, nested or costly is refused, and the site answers on (threats 15, 61)', async () => {
    const job = (spec: object): object => ({
      ...{ apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name: 'bomb' } },
      spec: { template: { image, command: ['true'] }, ...spec },
    });
    const attempts: readonly [object, RegExp][] = [
      [job({ requirements: { dynamic: [`"${'a'.repeat(100_000)}" == "b"`] } }), /requirements\.dynamic|too long/i],
      [
        job({ template: { image, command: Array.from({ length: 100_000 }, () => 'x') } }),
        /command|too (long|large|many)/i,
      ],
      [pod('bomb', {}, { annotations: { a: 'x'.repeat(3_000_000) } }), /too (large|long)|limit|annotations/i],
    ];
    for (const [object, message] of attempts) {
      const { status, stderr } = await create(alice, object);
      expect([status === 0, stderr]).toEqual([false, expect.stringMatching(message)]);
    }
    const loops = job({ requirements: { dynamic: ['["a"].all(x, ["b"].all(y, x == y))'] } });
    expect((await create(alice, loops)).status).toBe(0);
    await site.kubectl(
      ...[['wait', 'gridjob/bomb', '-n', namespace, '--for=jsonpath={.status.conditions[0].reason}=InvalidExpression']],
    );
    expect((await as(alice, ['delete', 'gridjob', 'bomb'])).status).toBe(0);
  });

  test('the last administrator stays (threat 67)', async () => {
    const empty = ['patch', 'vo', system, '--type=merge', '-p', JSON.stringify({ spec: { administrators: [] } })];
    expect((await asUser('carol', empty)).stderr).toMatch(/administrators/);
  });

  test('the operator itself may do no more than it lists (threat 58)', async () => {
    const account = `system:serviceaccount:${system}:xtreemos`;
    const rights = await site.kubectl(['auth', 'can-i', '--list', `--as=${account}`, '-n', 'kube-system']);
    expect(rights).toMatch(/xtreemos\.io/);
    for (const line of rights.split('\n')) expect(line).not.toMatch(/^\*|\[\*\]/);
    for (const what of ['get secrets', 'create pods --subresource=exec', 'create pods --subresource=attach']) {
      const asked = ['auth', 'can-i', ...what.split(' '), `--as=${account}`, '-n', 'kube-system'];
      expect([what, (await site.tryKubectl(asked)).stdout.trim()]).toEqual([what, 'no']);
    }
  });
});

describe('the gateway', () => {
  let gateway: GatewayClient;

  beforeAll(async () => {
    const { data } = await site.get<{ data: Record<string, string> }>('cm', 'xtreemos-gateway', '-n', 'kube-public');
    const [host, port] = (data.address ?? '').split(':');
    gateway = new GatewayClient(Number(port), data.caBundle ?? '', host);
  });

  const logIn = async (): Promise<Record<string, unknown>> => {
    const { status, body } = await gateway.call('POST', '/v1/sessions', {
      body: { method: 'kubernetes' },
      certificate: readCredentials(shared.kubeconfig, `mallory@${site.name}`),
    });
    expect(status).toBe(201);
    for (const name of ['sessionToken', 'refreshToken']) canaries.add(String(body[name]));
    return body;
  };

  test('believes no token that was made up, or is for something else (threats 32, 33)', async () => {
    const { sessionToken } = await logIn();
    const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
    const claims = { iss: 'kubernetes:home', sub: 'mallory', exp: 4_102_444_800, iat: 0, aud: 'xtreemos' };
    const kubernetes = (await site.kubectl(['create', 'token', alice.userName, '-n', namespace])).trim();
    const forged = [
      `${encode({ alg: 'none', typ: 'JWT' })}.${encode(claims)}.`,
      `${encode({ alg: 'HS256', jwk: {}, kid: '../../etc/passwd' })}.${encode(claims)}.${randomBytes(32).toString('base64url')}`,
      `${encode({ alg: 'RS256', jku: 'https://evil.example.org/jwks' })}.${encode(claims)}.AAAA`,
      `${String(sessionToken).slice(0, -4)}AAAA`,
      kubernetes,
    ];
    for (const token of forged) expect((await gateway.call('GET', '/v1/whoami', { bearer: token })).status).toBe(401);
    expect((await gateway.call('GET', '/v1/whoami', { bearer: String(sessionToken) })).status).toBe(200);
  });

  test('ends a session whose refresh token comes back a second time (threat 38)', async () => {
    const first = await logIn();
    const refresh = async (refreshToken: unknown): Promise<GatewayAnswer> =>
      gateway.call('POST', '/v1/sessions/refresh', {
        body: { refreshToken, attempt: randomBytes(32).toString('base64url') },
      });
    const second = await refresh(first.refreshToken);
    const third = await refresh(second.body.refreshToken);
    for (const { body } of [second, third]) canaries.add(String(body.refreshToken)).add(String(body.sessionToken));
    expect([second.status, third.status]).toEqual([200, 200]);
    expect((await refresh(first.refreshToken)).status).toBe(401);
    expect((await refresh(third.body.refreshToken)).status).toBe(401);
    expect((await gateway.call('GET', '/v1/whoami', { bearer: String(third.body.sessionToken) })).status).toBe(401);
  });

  test('logs no pod in, and no member by the account that it gave them (threat 46)', async () => {
    for (const [name, where] of [
      [alice.userName, namespace],
      ['default', outside],
    ] as const) {
      const token = (await site.kubectl(['create', 'token', name, '-n', where])).trim();
      const { status } = await gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, bearer: token });
      expect([name, [401, 403].includes(status)]).toEqual([name, true]);
    }
  });

  test('answers in time when a provider does not (threat 45)', async () => {
    const provider = {
      ...{ name: 'silent', type: 'OpenIDConnect' },
      openIDConnect: { issuer: 'https://198.51.100.9', clientID: 'xtreemos' },
    };
    const setProviders = async (providers: object[]): Promise<unknown> =>
      site.kubectl([
        ...['patch', 'site', 'home', '--type=merge', '-p'],
        JSON.stringify({ spec: { local: { identityProviders: providers } } }),
      ]);
    await setProviders([provider]);
    await waitFor('the gateway knows it', async () =>
      JSON.stringify((await gateway.call('GET', '/v1/site')).body).includes('silent'),
    );
    const { challenge } = aVerifier();
    const begun = process.hrtime.bigint();
    const asking = gateway.call('POST', '/v1/sessions', { body: { method: 'device', provider: 'silent', challenge } });
    expect((await gateway.call('GET', '/v1/site')).status).toBe(200);
    expect([403, 503]).toContain((await asking).status);
    // What bounds it is the gateway's own limit of time, not the one of this client.
    expect(Number(process.hrtime.bigint() - begun) / 1e9).toBeLessThan(9.5);
    await setProviders([]);
    expect((await site.get<Site>('site', 'home')).spec).toMatchObject({ type: 'Local' });
  });

  test('nothing that was secret is in logs, events, status or objects that people read (threat 65)', async () => {
    const texts = [await site.kubectl(['get', 'events', '-A', '-o', 'yaml'])];
    for (const kinds of ['vo,vom,islice,sites.xtreemos.io,gridjobs', 'pods,configmaps,deployments']) {
      texts.push(await site.kubectl(['get', kinds, '-A', '-o', 'yaml']));
    }
    const { items } = await site.get<{ items: { metadata: { name: string } }[] }>('pods', '-n', system);
    for (const { metadata } of items) {
      texts.push(await site.kubectl(['logs', metadata.name, '-n', system, '--all-containers', '--tail=-1']));
    }
    const all = texts.join('\n');
    expect(all).toContain('mallory');
    expect(canaries.size).toBeGreaterThan(4);
    for (const canary of canaries) expect(all.includes(canary)).toBe(false);
  });
});
