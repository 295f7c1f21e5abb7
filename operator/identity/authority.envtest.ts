/** Signing for virtual organizations on a real API server, with keys of a real cert-manager. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type AuditRecord } from '#common/audit.ts';
import { systemClock } from '#common/clock.ts';
import { verifyAccessToken } from '#common/identity/access-token.ts';
import { verifyGenesis, verifyState, type VoState } from '#common/identity/vo-state.ts';
import { silentLogger } from '#common/logger.ts';
import { installCrds } from '#crds/testing/install.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { addVoAuthorityController, type VoSigning } from '#operator/controllers/voauthority/setup.ts';
import { createManager, HttpTransport, kubeConfigCredentials, type Manager } from '#runtime/index.ts';
import type { Stored } from '#runtime/types.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, type KubeObject, waitFor } from '#sites/kube-client.ts';
import { type RunningCertManager, startCertManager } from '../testing/cert-manager.ts';
import { TokenMinter } from './minter.ts';
import { describeAuthority } from './testing/authority-compliance.ts';

jest.setTimeout(60_000);
const namespace = 'xtreemos-system';
const organizations = '/apis/xtreemos.io/v1alpha1/virtualorganizations';
const administrators = [{ issuer: 'kubernetes:rennes', subject: 'ada' }];

let plane: AloneControlPlane;
let client: KubeClient;
let certManager: RunningCertManager;
const running: Operator[] = [];
const audit: AuditRecord[] = [];

beforeAll(async () => {
  plane = await startControlPlane({ dir: mkdtempSync(path.join(tmpdir(), 'xtreemos-authority-')), name: 'authority' });
  client = new KubeClient(plane.credentials);
  await installCrds(client);
  await client.apply(`/api/v1/namespaces/${namespace}`, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: namespace },
  });
  certManager = await startCertManager(client, plane.kubeconfigPath);
}, 120_000);

afterEach(async () => {
  for (const each of running.splice(0)) await each.stop();
  audit.length = 0;
});

afterAll(async () => {
  await certManager.stop();
  client.close();
  await plane.stop();
});

/** The controller in a process of its own, as far as it can tell. */
class Operator {
  readonly signing: VoSigning;
  readonly minter: TokenMinter;
  private readonly manager: Manager;
  private readonly transport: HttpTransport;
  private readonly stopper = new AbortController();
  private readonly end: Promise<void>;

  constructor() {
    this.transport = new HttpTransport({ credentials: kubeConfigCredentials({ file: plane.kubeconfigPath }) });
    this.manager = createManager({ name: 'test', transport: this.transport });
    this.signing = addVoAuthorityController(this.manager, {
      clock: systemClock,
      log: silentLogger,
      audit: { record: (record) => audit.push(record) },
      localSite: 'rennes',
      namespace,
    });
    this.minter = new TokenMinter(this.signing.keys, this.signing.records, systemClock);
    this.end = this.manager.run(this.stopper.signal);
    this.end.catch(() => undefined);
    running.push(this);
  }

  async stop(): Promise<void> {
    this.stopper.abort(new Error('stop'));
    await this.end.catch(() => undefined);
    await this.transport.close();
  }
}

/** An organization with its namespace and the slice that the identity controller would give it. */
async function found(slice: number): Promise<string> {
  const name = `vo-${randomUUID().slice(0, 8)}`;
  const body = {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'VirtualOrganization',
    metadata: { name },
    spec: { administrators },
  };
  const vo = await client.json('POST', organizations, { body });
  const labels = {
    'xtreemos.io/virtual-organization': name,
    'xtreemos.io/virtual-organization-uid': vo.metadata?.uid ?? '',
  };
  await client.json('POST', '/api/v1/namespaces', {
    body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: `vo-${name}`, labels } },
  });
  await patchStatus(name, { slices: [slice] });
  return name;
}

async function patchStatus(name: string, status: object): Promise<void> {
  const path = `${organizations}/${name}/status`;
  await client.json('PATCH', path, { body: { status }, contentType: 'application/merge-patch+json' });
}

async function patch(name: string, spec: object): Promise<void> {
  const path = `${organizations}/${name}`;
  await client.json('PATCH', path, { body: { spec }, contentType: 'application/merge-patch+json' });
}

const get = async (name: string): Promise<Stored<VirtualOrganization>> =>
  (await client.json('GET', `${organizations}/${name}`)) as unknown as Stored<VirtualOrganization>;
const publishedPath = (name: string): string => `/api/v1/namespaces/vo-${name}/configmaps/vo-state`;
const recordPath = (uid: string): string => `/api/v1/namespaces/${namespace}/configmaps/vo-${uid}-state`;

/** What members and peers see, checked as they would. */
async function read(name: string): Promise<{ state: VoState; jws: string; genesis: string }> {
  const { genesis = '', state = '' } =
    ((await client.json('GET', publishedPath(name))) as { data?: Record<string, string> }).data ?? {};
  const vo = await get(name);
  const founding = await verifyGenesis(genesis, vo.status?.genesis);
  const verified = await verifyState(state, founding);
  return { state: verified.content, jws: state, genesis };
}

async function settled(name: string, check: (state: VoState) => boolean): Promise<Stored<VirtualOrganization>> {
  return waitFor(`the state of ${name} is as it should be`, async () => {
    const vo = await get(name);
    if (vo.status?.genesis === undefined) return undefined;
    const { state, jws } = await read(name);
    const known = await verifyState(jws, await verifyGenesis((await read(name)).genesis));
    const isTold = vo.status.epoch === state.epoch && vo.status.stateDigest === known.digest;
    return isTold && check(state) ? vo : undefined;
  }, { limitMs: 30_000 }); // prettier-ignore
}

test('founds an organization: keys by cert-manager, founding document, first state', async () => {
  new Operator();
  const name = await found(1);
  const vo = await settled(name, () => true);
  const { state } = await read(name);
  expect(state).toMatchObject({
    vo: { name, uid: vo.metadata.uid },
    state: 'Forming',
    slices: [1],
    administrators,
    minEpoch: 0,
    revoked: [],
  });
  expect(state.keys.length).toBeGreaterThan(0);
  expect(vo.status?.authority).toMatch(/^[A-Za-z0-9_-]{43}$/);
  expect(vo.status?.conditions).toContainEqual(expect.objectContaining({ type: 'StatePublished', status: 'True' }));
  const binding = await client.json(
    'GET',
    `/apis/rbac.authorization.k8s.io/v1/namespaces/vo-${name}/rolebindings/xtreemos-vo-authority`,
  );
  expect(binding).toMatchObject({ subjects: [{ kind: 'User', name: 'admin' }] });
});

test('each change has a number of its own, and nothing is signed when nothing changed', async () => {
  const operator = new Operator();
  const name = await found(2);
  await settled(name, ({ keys }) => keys.length === 2);
  const before = (await read(name)).state.epoch;
  await patch(name, { state: 'Operational', roles: [{ name: 'operator', capabilities: ['jobs.manage'] }] });
  await settled(name, ({ state }) => state === 'Operational');
  expect((await read(name)).state).toMatchObject({
    epoch: before + 1,
    roles: [{ name: 'operator', capabilities: ['jobs.manage'] }],
  });
  const vo = await get(name);
  for (let i = 0; i < 3; i++) await operator.signing.authority.publish(vo, AbortSignal.timeout(5000));
  expect((await read(name)).state.epoch).toBe(before + 1);
});

test('many leaders at once never give one number to two contents (threat 29)', async () => {
  const operators = [new Operator(), new Operator(), new Operator()];
  const name = await found(3);
  await settled(name, ({ keys }) => keys.length === 2);
  const seen = new Map<number, Set<string>>();
  const watching = new AbortController();
  const watcher = (async () => {
    while (!watching.signal.aborted) {
      const { state } = await read(name);
      const contents = seen.get(state.epoch) ?? new Set<string>();
      seen.set(state.epoch, contents.add(JSON.stringify(state)));
    }
  })();
  for (let i = 0; i < 12; i++) {
    await patch(name, { roles: [{ name: `role-${i}`, capabilities: [] }] });
    const vo = await get(name);
    await Promise.allSettled(
      operators.map(async ({ signing }) => signing.authority.publish(vo, AbortSignal.timeout(5000))),
    );
  }
  await settled(name, ({ roles }) => roles[0]?.name === 'role-11');
  watching.abort();
  await watcher;
  expect([...seen.values()].every((contents) => contents.size === 1)).toBe(true);
  expect(seen.size).toBeGreaterThan(2);
});

describe('an older state that was put back (threat 29)', () => {
  test('where members read it is replaced and told', async () => {
    new Operator();
    const name = await found(4);
    await settled(name, ({ keys }) => keys.length === 2);
    const old = (await client.json('GET', publishedPath(name))) as { data?: object };
    await patch(name, { state: 'Operational' });
    const vo = await settled(name, ({ state }) => state === 'Operational');
    const epoch = vo.status?.epoch ?? 0;
    await client.json('PATCH', publishedPath(name), {
      body: { data: old.data },
      contentType: 'application/merge-patch+json',
    });
    // It is looked at with the next change, or once a minute.
    await patch(name, { description: 'x' });
    await waitFor('it is mended', async () => (await read(name)).state.state === 'Operational');
    expect((await read(name)).state.epoch).toBe(epoch);
    expect(audit).toContainEqual(
      expect.objectContaining({ what: 'state.publish', outcome: 'Refused', why: 'OlderEpoch' }),
    );
  });

  test('in the record is not published: a state above all numbers takes its place, and it is told', async () => {
    const operator = new Operator();
    const name = await found(5);
    const { metadata } = await settled(name, ({ keys }) => keys.length === 2);
    const old = await client.json('GET', recordPath(metadata.uid));
    await patch(name, { state: 'Operational' });
    const vo = await settled(name, ({ state }) => state === 'Operational');
    const highest = vo.status?.epoch ?? 0;
    await operator.stop();
    await client.json('DELETE', recordPath(metadata.uid));
    const { data, metadata: meta } = old as KubeObject & { data: object };
    await client.json('POST', `/api/v1/namespaces/${namespace}/configmaps`, {
      body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: meta?.name, labels: meta?.labels }, data },
    });
    new Operator();
    const mended = await settled(name, ({ epoch }) => epoch > highest);
    expect((await read(name)).state.state).toBe('Operational');
    expect(mended.status?.genesis).toBe(vo.status?.genesis);
    expect(audit).toContainEqual(expect.objectContaining({ why: 'OlderEpoch', outcome: 'Refused' }));
    const { items } = await client.list('/apis/events.k8s.io/v1/events');
    await waitFor('an event tells it', async () => {
      const events = (await client.list('/apis/events.k8s.io/v1/events')).items as (KubeObject & { reason?: string })[];
      return events.some(({ reason }) => reason === 'OlderEpoch');
    });
    expect(items).toBeDefined();
  });

  test('that is gone altogether is made anew under the same founding document', async () => {
    const operator = new Operator();
    const name = await found(6);
    const before = await settled(name, ({ keys }) => keys.length === 2);
    await operator.stop();
    await client.json('DELETE', recordPath(before.metadata.uid));
    await client.json('DELETE', publishedPath(name));
    new Operator();
    const after = await settled(name, ({ epoch }) => epoch > (before.status?.epoch ?? 0));
    expect(after.status?.genesis).toBe(before.status?.genesis);
  });

  test('nothing is signed with another root key than it was founded with', async () => {
    const operator = new Operator();
    const name = await found(7);
    const { metadata, status } = await settled(name, ({ keys }) => keys.length === 2);
    await operator.stop();
    await client.json('DELETE', `/api/v1/namespaces/${namespace}/secrets/vo-${metadata.uid}-root`);
    new Operator();
    await waitFor('it is refused', async () => {
      const conditions = (await get(name)).status?.conditions ?? [];
      return conditions.some(({ type, reason }) => type === 'StatePublished' && reason === 'RootKeyChanged');
    }, { limitMs: 30_000 }); // prettier-ignore
    expect((await get(name)).status).toMatchObject({ epoch: status?.epoch, genesis: status?.genesis });
  });
});

test('a signing key is replaced by cert-manager with overlap: tokens of the old key hold on, new ones come from a key that is known', async () => {
  const operator = new Operator();
  const name = await found(8);
  await patch(name, { state: 'Operational' });
  const vo = await settled(name, ({ keys, state }) => keys.length === 2 && state === 'Operational');
  const mint = async (): Promise<string> => (await operator.minter.mint(vo, content(8), 3600)).token;
  const old = await mint();
  const renew = async (index: number): Promise<void> => {
    const path = `/apis/cert-manager.io/v1/namespaces/${namespace}/certificates/vo-${vo.metadata.uid}-signing-${index}/status`;
    const issuing = {
      type: 'Issuing',
      status: 'True',
      reason: 'Test',
      message: 'Renew',
      lastTransitionTime: new Date().toISOString(),
    };
    const { status } = await client.json('GET', path);
    const conditions = [...((status?.conditions ?? []) as object[]), issuing];
    await client.json('PATCH', path, { body: { status: { conditions } }, contentType: 'application/merge-patch+json' });
  };
  await renew(0);
  await settled(name, ({ keys }) => keys.length === 3);
  const between = await mint();
  await renew(1);
  await settled(name, ({ keys }) => keys.length === 4);
  const { genesis, jws } = await read(name);
  const state = await verifyState(jws, await verifyGenesis(genesis));
  for (const token of [old, between, await mint()]) {
    await expect(verifyAccessToken(token, { state, audience: 'a', nowMs: Date.now() })).resolves.toMatchObject({
      sub: 'u-alice-1',
    });
  }
  const exp = state.content.keys.map((key) => key.exp - Date.now() / 1000);
  // The replaced ones end with their last token, the others with their certificate.
  expect(exp.filter((seconds) => seconds < 4000)).toHaveLength(2);
  expect(exp.filter((seconds) => seconds > 20 * 86_400)).toHaveLength(2);
});

function content(slice: number) {
  const base = 2_013_265_920 + slice * 65_536;
  return {
    sub: 'u-alice-1',
    aud: 'a',
    principal: { issuer: 'https://a', subject: 'b' },
    uid: base + 1024,
    gid: base,
    groups: [],
    roles: [],
    caps: [],
  };
}

describe('a member who is cut (threat 39)', () => {
  const memberships = (name: string): string => `/apis/xtreemos.io/v1alpha1/namespaces/vo-${name}/vomemberships`;

  async function join(name: string, uid: number): Promise<void> {
    const spec = {
      principal: { issuer: 'https://id.example.org', subject: String(uid) },
      state: 'Active',
      roles: ['member', 'operator'],
    };
    const body = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VOMembership', metadata: { name: `m-${uid}` }, spec };
    await client.json('POST', memberships(name), { body });
    await client.json('PATCH', `${memberships(name)}/m-${uid}/status`, {
      body: { status: { state: 'Active', uid } },
      contentType: 'application/merge-patch+json',
    });
  }

  test.each([
    ['by suspension', { state: 'Suspended' }],
    ['by a ban', { state: 'Banned' }],
    ['from a role', { roles: ['member'] }],
  ])('%s is in the next state within five seconds, and the others are not', async (_, spec) => {
    new Operator();
    const name = await found(9);
    const uid = 2_013_265_920 + 9 * 65_536 + 1024;
    await settled(name, ({ keys }) => keys.length === 2);
    await join(name, uid);
    await join(name, uid + 1);
    const { epoch } = (await read(name)).state;
    const start = Date.now();
    await client.json('PATCH', `${memberships(name)}/m-${uid}`, {
      body: { spec },
      contentType: 'application/merge-patch+json',
    });
    await settled(name, ({ revoked }) => revoked.length === 1);
    expect(Date.now() - start).toBeLessThan(5000);
    const { revoked } = (await read(name)).state;
    expect(revoked).toEqual([{ uid, minEpoch: epoch + 1, until: expect.any(Number) }]);
    expect((revoked[0]?.until ?? 0) - Date.now() / 1000).toBeLessThan(3722);
  });

  test('while no operator ran is in the first state of the next one', async () => {
    const first = new Operator();
    const name = await found(10);
    const uid = 2_013_265_920 + 10 * 65_536 + 1024;
    await settled(name, ({ keys }) => keys.length === 2);
    await join(name, uid);
    await first.stop();
    await client.json('PATCH', `${memberships(name)}/m-${uid}`, {
      body: { spec: { state: 'Suspended' } },
      contentType: 'application/merge-patch+json',
    });
    new Operator();
    await settled(name, ({ revoked }) => revoked.length === 1 && revoked[0]?.uid === uid);
  });
});

describe('at the end', () => {
  test('there is a final state, and then no key any more (threat 66)', async () => {
    const operator = new Operator();
    const name = await found(11);
    await patch(name, { state: 'Operational' });
    const vo = await settled(name, ({ keys, state }) => keys.length === 2 && state === 'Operational');
    const { token } = await operator.minter.mint(vo, content(11), 3600);
    const { authority } = operator.signing;
    const signal = AbortSignal.timeout(20_000);
    const last = await authority.revoke(vo, signal);
    expect(last?.epoch).toBe((vo.status?.epoch ?? 0) + 1);
    // Again, as after a crash: the same.
    expect(await authority.revoke(vo, signal)).toEqual(last);
    const { genesis, jws, state } = await read(name);
    expect(state).toMatchObject({ state: 'Dissolved', keys: [], minEpoch: last?.epoch });
    const verified = await verifyState(jws, await verifyGenesis(genesis));
    await expect(verifyAccessToken(token, { state: verified, audience: 'a', nowMs: Date.now() })).rejects.toMatchObject(
      { problem: 'Dissolved' },
    );
    await waitFor('no token is minted any more', async () =>
      operator.minter.mint(vo, content(11), 60).then(
        () => false,
        () => true,
      ),
    );
    await authority.forget(vo, signal);
    await authority.forget(vo, signal);
    await patch(name, { description: 'is looked at again' });
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const { items } = await client.list(`/api/v1/namespaces/${namespace}/secrets`);
    expect(items.filter(({ metadata }) => metadata?.name?.includes(vo.metadata.uid))).toEqual([]);
    expect((await read(name)).state.epoch).toBe(last?.epoch);
  });

  test('an organization of the same name that comes later has nothing of it (threat 68)', async () => {
    new Operator();
    const name = await found(12);
    const before = await settled(name, ({ keys }) => keys.length === 2);
    await client.json('DELETE', `${organizations}/${name}`);
    await waitFor('its keys are gone', async () => {
      const { items } = await client.list(`/api/v1/namespaces/${namespace}/secrets`);
      return !items.some(({ metadata }) => metadata?.name?.includes(before.metadata.uid));
    }, { limitMs: 20_000 }); // prettier-ignore
    const body = {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VirtualOrganization',
      metadata: { name },
      spec: { administrators },
    };
    await client.json('POST', organizations, { body });
    await patchStatus(name, { slices: [13] });
    const after = await waitFor('it is founded', async () => {
      const vo = await get(name);
      return vo.status?.genesis === undefined ? undefined : vo;
    }, { limitMs: 30_000 }); // prettier-ignore
    expect(after.status?.genesis).not.toBe(before.status?.genesis);
    expect(after.status?.authority).not.toBe(before.status?.authority);
  });
});

let slices = 100;

describeAuthority('Authority', async () => {
  const operator = new Operator();
  const make = async (): Promise<Stored<VirtualOrganization>> => {
    const name = await found(++slices);
    return settled(name, ({ keys }) => keys.length === 2);
  };
  const unknown = async (): Promise<Stored<VirtualOrganization>> => {
    const vo = await make();
    // Nobody has heard of this uid.
    return { ...vo, metadata: { ...vo.metadata, name: 'nobody', uid: randomUUID() }, status: {} };
  };
  return Promise.resolve({ authority: operator.signing.authority, found: make, unknown });
});
