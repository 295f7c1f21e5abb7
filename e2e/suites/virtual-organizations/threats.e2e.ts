/** Attacks on a real site, by members against each other and by anyone against the gateway. Numbers as in docs/security-model.md. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { podAttacks } from '#crds/policies/testing/pod-attacks.ts';
import { waitFor } from '#sites/harness.ts';
import type { CommandResult } from '#sites/shell.ts';
import { aPod, waitPods } from '#sites/testing.ts';
import { gatewayThreats } from './gateway-threats.cases.ts';
import { image, imageGroups, outside, pod, system, ThreatScene } from './threats-scene.ts';

jest.setTimeout(120_000);
const scene = new ThreatScene();
beforeAll(async () => scene.start(), 400_000);
afterAll(async () => scene.stop());

describe('a pod that asks for more than its member has', () => {
  const ids = { uid: 0, gid: 0, account: 'a', otherUid: 0, otherAccount: 'b', foreignGid: 0, foreignAccount: 'c' };

  test.each(podAttacks(ids).map(([name], index) => [name, index] as const))('%s', async (_name, index) => {
    const gid = scene.member.status?.gid ?? 0;
    const [, spec, refused] = podAttacks({
      ...{
        uid: scene.alice.uid,
        gid,
        account: scene.alice.userName,
        otherUid: scene.bob.uid,
        otherAccount: scene.bob.userName,
      },
      ...{ foreignGid: gid + 65_536, foreignAccount: `u-dave-${gid + 65_536 + 5_000}` },
    })[index]!;
    const { status, stderr } = await scene.create(scene.alice, pod('mine', spec));
    // Pod Security stands before the policies, and has words of its own.
    const answer = stderr.includes('violates PodSecurity "restricted') ? '' : stderr;
    if (answer !== '') expect(answer).toMatch(refused);
    expect(status).not.toBe(0);
  });

  test('none of them is there', async () => {
    expect((await scene.site.get<{ items: object[] }>('pods', '-n', scene.namespace)).items).toEqual([]);
  });
});

describe('a running pod', () => {
  let hers: string;

  beforeAll(async () => {
    hers = `${scene.alice.userName}-hers`;
    expect(await scene.create(scene.alice, pod(hers))).toMatchObject({ status: 0 });
    await waitPods(scene.site, scene.namespace, hers);
  });

  test('holds no token of the API server (threat 3)', async () => {
    const { status, stdout } = await scene.site.exec(
      ...[scene.namespace, hers],
      'ls -a /var/run/secrets /run/secrets 2>/dev/null; mount | grep -c serviceaccount; find / -xdev -name token 2>/dev/null; cat /proc/1/environ | tr "\\0" "\\n" | grep -i token',
    );
    expect([status, stdout.trim()]).toEqual([1, '0']);
  });

  test('has no group that its image claims for it (threat 5)', async () => {
    const { uid } = scene.alice;
    const claiming = aPod({ name: 'claiming', namespace: outside, image, script: 'sleep 600' }) as { spec: object };
    const securityContext = { runAsNonRoot: true, runAsUser: uid, seccompProfile: { type: 'RuntimeDefault' } };
    await scene.site.apply([{ ...claiming, spec: { ...claiming.spec, securityContext } }]);
    await waitPods(scene.site, outside, 'claiming');
    const claimed = (await scene.site.exec(outside, 'claiming', 'id -G')).stdout.trim().split(' ').map(Number);
    expect(claimed).toEqual(expect.arrayContaining(imageGroups));
    const { gid, gids = [] } = scene.member.status ?? {};
    const real = (await scene.site.exec(scene.namespace, hers, 'id -G')).stdout.trim().split(' ').map(Number);
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
    const words = args.map((word) => word.replace('@', hers).replace('NAMESPACE', scene.namespace));
    const { status, stderr } = await scene.as(scene.bob, words);
    expect([status === 0, stderr]).toEqual([
      false,
      expect.stringMatching(/belongs to|not known to be yours|forbidden/),
    ]);
    expect((await scene.site.exec(scene.namespace, hers, 'true')).status).toBe(0);
  });

  test('is entered by its owner, and ended by an administrator (threat 12)', async () => {
    expect((await scene.as(scene.alice, ['exec', hers, '--', 'id', '-u'])).stdout.trim()).toBe(String(scene.alice.uid));
    const other = `${scene.alice.userName}-other`;
    expect(await scene.create(scene.alice, pod(other))).toMatchObject({ status: 0 });
    await waitPods(scene.site, scene.namespace, other);
    const ended = await scene.asUser('carol', ['delete', 'pod', other, '-n', scene.namespace]);
    expect([ended.status, ended.stderr]).toEqual([0, '']);
  });

  test('takes no later privilege: what was judged stays (threats 7, 60)', async () => {
    const at = ['patch', 'pod', hers, '--type=merge'];
    const debug = { name: 'debug', image, securityContext: { privileged: true } };
    const attempts = [
      [...at, '--subresource=ephemeralcontainers', '-p', JSON.stringify({ spec: { ephemeralContainers: [debug] } })],
      [...at, '-p', JSON.stringify({ spec: { tolerations: [{ operator: 'Exists' }] } })],
      [...at, '-p', JSON.stringify({ metadata: { labels: { 'xtreemos.io/owner': scene.bob.userName } } })],
    ];
    for (const args of attempts) expect((await scene.as(scene.alice, args)).status).not.toBe(0);
  });

  test('is not adopted, kept or dressed up as another’s (threats 9, 10)', async () => {
    const owner = { apiVersion: 'v1', kind: 'Pod', name: hers, uid: '00000000-0000-0000-0000-000000000000' };
    for (const metadata of [
      { labels: { 'xtreemos.io/owner': scene.bob.userName } },
      { labels: { 'xtreemos.io/vo': 'chemistry' } },
      { annotations: { 'xtreemos.io/uid': '0' } },
      { ownerReferences: [owner] },
      { finalizers: ['example.org/mine'] },
    ]) {
      const { status, stderr } = await scene.create(scene.alice, pod('spoof', {}, metadata));
      expect([status === 0, stderr]).toEqual([false, expect.stringMatching(/metadata\.\w+|names u-bob/)]);
    }
  });

  test('another like it starts under the same rules while the operator is away (threat 55)', async () => {
    const replicas = async (count: number): Promise<unknown> =>
      scene.site.kubectl(['scale', 'deployment', 'xtreemos', '-n', system, `--replicas=${count}`]);
    await replicas(0);
    try {
      await waitFor('the operator is gone', async () => {
        const operators = ['pods', '-n', system, '-l', 'app.kubernetes.io/component=operator'];
        return (await scene.site.get<{ items: object[] }>(...operators)).items.length === 0;
      });
      const forged = await scene.create(scene.alice, pod('forged', { securityContext: { runAsUser: scene.bob.uid } }));
      expect(forged.stderr).toContain(`runAsUser: ${scene.bob.uid}`);
      const away = `${scene.alice.userName}-away`;
      expect(await scene.create(scene.alice, pod(away))).toMatchObject({ status: 0 });
      await waitPods(scene.site, scene.namespace, away);
      expect((await scene.site.exec(scene.namespace, away, 'id -u')).stdout.trim()).toBe(String(scene.alice.uid));
    } finally {
      await replicas(2);
    }
    await scene.site.kubectl(['rollout', 'status', 'deployment/xtreemos', '-n', system, '--timeout=90s'], {
      timeoutMs: 100_000,
    });
  });
});

describe('records of members', () => {
  const membership = (name: string, spec: object): object => ({
    ...{ apiVersion: 'xtreemos.io/v1alpha1', kind: 'VOMembership', metadata: { name, namespace: scene.namespace } },
    spec: { state: 'Active', ...spec },
  });
  const principal = (subject: string, issuer = 'https://login.example.org'): object => ({
    principal: { issuer, subject },
  });
  const patch = async (name: string, spec: object): Promise<CommandResult> =>
    scene.asUser('carol', [
      'patch',
      'vom',
      name,
      '-n',
      scene.namespace,
      '--type=merge',
      '-p',
      JSON.stringify({ spec }),
    ]);

  test('ids are not chosen, nor an account taken over by its number (threats 42, 59)', async () => {
    const { spec } = scene.member;
    expect((await patch('bob', { identity: spec.identity })).status).not.toBe(0);
    expect((await patch('alice', principal('bob'))).stderr).toMatch(/principal/);
    const status = ['patch', 'vom', 'bob', '-n', scene.namespace, '--type=merge', '--subresource=status'];
    const spoof = await scene.asUser('carol', [...status, '-p', JSON.stringify({ status: { uid: scene.alice.uid } })]);
    expect(spoof.stderr).toContain('forbidden');
    expect((await scene.as(scene.bob, ['get', 'secrets'])).stderr).toContain('forbidden');
  });

  test('one name at two issuers is two people, and a record made again is a new one (threats 40, 41)', async () => {
    const made = await scene.asUser(
      'carol',
      ['create', '-f', '-'],
      membership('alice-2', principal('alice', 'https://other.example.org')),
    );
    expect([made.stderr, made.status]).toEqual(['', 0]);
    const first = await scene.product.member('alice-2');
    expect(first.status?.uid).not.toBe(scene.alice.uid);
    await scene.asUser('carol', ['delete', 'vom', 'alice-2', '-n', scene.namespace, '--timeout=60s']);
    await scene.asUser(
      'carol',
      ['create', '-f', '-'],
      membership('alice-2', principal('alice', 'https://other.example.org')),
    );
    const second = await scene.product.member('alice-2');
    expect([first.status?.uid, scene.alice.uid]).not.toContain(second.status?.uid);
  });

  test.each([
    ['a subject of the system', 'system:masters', /subject/],
    ['a name written backwards', 'alice\u202Egnp', /subject/],
    ['a name that looks alike', 'аlice', /subject/],
  ])('%s is no member (threats 15, 41)', async (_what, subject, message) => {
    const answer = await scene.asUser(
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
      const { status, stderr } = await scene.create(scene.alice, object);
      expect([status === 0, stderr]).toEqual([false, expect.stringMatching(message)]);
    }
    const loops = job({ requirements: { dynamic: ['["a"].all(x, ["b"].all(y, x == y))'] } });
    expect((await scene.create(scene.alice, loops)).status).toBe(0);
    await scene.site.kubectl(
      ...[
        [
          'wait',
          'gridjob/bomb',
          '-n',
          scene.namespace,
          '--for=jsonpath={.status.conditions[0].reason}=InvalidExpression',
        ],
      ],
    );
    expect((await scene.as(scene.alice, ['delete', 'gridjob', 'bomb'])).status).toBe(0);
  });

  test('the last administrator stays (threat 67)', async () => {
    const empty = ['patch', 'vo', system, '--type=merge', '-p', JSON.stringify({ spec: { administrators: [] } })];
    expect((await scene.asUser('carol', empty)).stderr).toMatch(/administrators/);
  });

  test('the operator itself may do no more than it lists (threat 58)', async () => {
    const account = `system:serviceaccount:${system}:xtreemos`;
    const rights = await scene.site.kubectl(['auth', 'can-i', '--list', `--as=${account}`, '-n', 'kube-system']);
    expect(rights).toMatch(/xtreemos\.io/);
    for (const line of rights.split('\n')) expect(line).not.toMatch(/^\*|\[\*\]/);
    for (const what of ['get secrets', 'create pods --subresource=exec', 'create pods --subresource=attach']) {
      const asked = ['auth', 'can-i', ...what.split(' '), `--as=${account}`, '-n', 'kube-system'];
      expect([what, (await scene.site.tryKubectl(asked)).stdout.trim()]).toEqual([what, 'no']);
    }
  });
});

gatewayThreats(scene);
