/** Signing for virtual organizations on a real API server, with keys of a real cert-manager. */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { verifyAccessToken } from '#common/identity/access-token.ts';
import { verifyGenesis, verifyState } from '#common/identity/vo-state.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Stored } from '#runtime/types.ts';
import { type KubeObject, waitFor } from '#sites/kube-client.ts';
import { renewCertificate } from '../testing/cert-manager.ts';
import { describeAuthority } from './testing/authority-compliance.ts';
import {
  administrators,
  AuthorityScene,
  namespace,
  organizations,
  publishedPath,
  recordPath,
} from './testing/authority-scene.ts';

jest.setTimeout(60_000);
const scene = new AuthorityScene();
const { found, get, patch, patchStatus, read, settled } = scene;
beforeAll(async () => scene.start(), 120_000);
afterEach(async () => scene.stopOperators());
afterAll(async () => scene.stop());

test('founds an organization: keys by cert-manager, founding document, first state', async () => {
  scene.operator();
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
  const binding = await scene.client.json(
    'GET',
    `/apis/rbac.authorization.k8s.io/v1/namespaces/vo-${name}/rolebindings/xtreemos-vo-authority`,
  );
  expect(binding).toMatchObject({ subjects: [{ kind: 'User', name: 'admin' }] });
});

test('each change has a number of its own, and nothing is signed when nothing changed', async () => {
  const operator = scene.operator();
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
  const operators = [scene.operator(), scene.operator(), scene.operator()];
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
    scene.operator();
    const name = await found(4);
    await settled(name, ({ keys }) => keys.length === 2);
    const old = (await scene.client.json('GET', publishedPath(name))) as { data?: object };
    await patch(name, { state: 'Operational' });
    const vo = await settled(name, ({ state }) => state === 'Operational');
    const epoch = vo.status?.epoch ?? 0;
    await scene.client.json('PATCH', publishedPath(name), {
      body: { data: old.data },
      contentType: 'application/merge-patch+json',
    });
    // It is looked at with the next change, or once a minute.
    await patch(name, { description: 'x' });
    await waitFor('it is mended', async () => (await read(name)).state.state === 'Operational');
    expect((await read(name)).state.epoch).toBe(epoch);
    expect(scene.audit).toContainEqual(
      expect.objectContaining({ what: 'state.publish', outcome: 'Refused', why: 'OlderEpoch' }),
    );
  });

  test('in the record is not published: a state above all numbers takes its place, and it is told', async () => {
    const operator = scene.operator();
    const name = await found(5);
    const { metadata } = await settled(name, ({ keys }) => keys.length === 2);
    const old = await scene.client.json('GET', recordPath(metadata.uid));
    await patch(name, { state: 'Operational' });
    const vo = await settled(name, ({ state }) => state === 'Operational');
    const highest = vo.status?.epoch ?? 0;
    await operator.stop();
    await scene.client.json('DELETE', recordPath(metadata.uid));
    const { data, metadata: meta } = old as KubeObject & { data: object };
    await scene.client.json('POST', `/api/v1/namespaces/${namespace}/configmaps`, {
      body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: meta?.name, labels: meta?.labels }, data },
    });
    scene.operator();
    const mended = await settled(name, ({ epoch }) => epoch > highest);
    expect((await read(name)).state.state).toBe('Operational');
    expect(mended.status?.genesis).toBe(vo.status?.genesis);
    expect(scene.audit).toContainEqual(expect.objectContaining({ why: 'OlderEpoch', outcome: 'Refused' }));
    const { items } = await scene.client.list('/apis/events.k8s.io/v1/events');
    await waitFor('an event tells it', async () => {
      const events = (await scene.client.list('/apis/events.k8s.io/v1/events')).items as (KubeObject & {
        reason?: string;
      })[];
      return events.some(({ reason }) => reason === 'OlderEpoch');
    });
    expect(items).toBeDefined();
  });

  test('that is gone altogether is made anew under the same founding document', async () => {
    const operator = scene.operator();
    const name = await found(6);
    const before = await settled(name, ({ keys }) => keys.length === 2);
    await operator.stop();
    await scene.client.json('DELETE', recordPath(before.metadata.uid));
    await scene.client.json('DELETE', publishedPath(name));
    scene.operator();
    const after = await settled(name, ({ epoch }) => epoch > (before.status?.epoch ?? 0));
    expect(after.status?.genesis).toBe(before.status?.genesis);
  });

  test('nothing is signed with another root key than it was founded with', async () => {
    const operator = scene.operator();
    const name = await found(7);
    const { metadata, status } = await settled(name, ({ keys }) => keys.length === 2);
    await operator.stop();
    await scene.client.json('DELETE', `/api/v1/namespaces/${namespace}/secrets/vo-${metadata.uid}-root`);
    scene.operator();
    await waitFor('it is refused', async () => {
      const conditions = (await get(name)).status?.conditions ?? [];
      return conditions.some(({ type, reason }) => type === 'StatePublished' && reason === 'RootKeyChanged');
    }, { limitMs: 30_000 }); // prettier-ignore
    expect((await get(name)).status).toMatchObject({ epoch: status?.epoch, genesis: status?.genesis });
  });
});

test('a signing key is replaced by cert-manager with overlap: tokens of the old key hold on, new ones come from a key that is known', async () => {
  const operator = scene.operator();
  const name = await found(8);
  await patch(name, { state: 'Operational' });
  const vo = await settled(name, ({ keys, state }) => keys.length === 2 && state === 'Operational');
  const mint = async (): Promise<string> => (await operator.minter.mint(vo, content(8), 3600)).token;
  const old = await mint();
  const renew = async (index: number): Promise<void> =>
    renewCertificate(scene.client, namespace, `vo-${vo.metadata.uid}-signing-${index}`);
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
    await scene.client.json('POST', memberships(name), { body });
    await scene.client.json('PATCH', `${memberships(name)}/m-${uid}/status`, {
      body: { status: { state: 'Active', uid } },
      contentType: 'application/merge-patch+json',
    });
  }

  test.each([
    ['by suspension', { state: 'Suspended' }],
    ['by a ban', { state: 'Banned' }],
    ['from a role', { roles: ['member'] }],
  ])('%s is in the next state within five seconds, and the others are not', async (_, spec) => {
    scene.operator();
    const name = await found(9);
    const uid = 2_013_265_920 + 9 * 65_536 + 1024;
    await settled(name, ({ keys }) => keys.length === 2);
    await join(name, uid);
    await join(name, uid + 1);
    const { epoch } = (await read(name)).state;
    const start = Date.now();
    await scene.client.json('PATCH', `${memberships(name)}/m-${uid}`, {
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
    const first = scene.operator();
    const name = await found(10);
    const uid = 2_013_265_920 + 10 * 65_536 + 1024;
    await settled(name, ({ keys }) => keys.length === 2);
    await join(name, uid);
    await first.stop();
    await scene.client.json('PATCH', `${memberships(name)}/m-${uid}`, {
      body: { spec: { state: 'Suspended' } },
      contentType: 'application/merge-patch+json',
    });
    scene.operator();
    await settled(name, ({ revoked }) => revoked.length === 1 && revoked[0]?.uid === uid);
  });
});

describe('at the end', () => {
  test('there is a final state, and then no key any more (threat 66)', async () => {
    const operator = scene.operator();
    const name = await found(11);
    await patch(name, { state: 'Operational' });
    const vo = await settled(name, ({ keys, state }) => keys.length === 2 && state === 'Operational');
    const { token } = await operator.minter.mint(vo, content(11), 3600);
    const { authority } = operator.signing;
    const signal = AbortSignal.timeout(20_000);
    const { state: before } = await read(name);
    // Its cache may be behind what it wrote itself: then it tries again, as a controller does.
    const last = await waitFor('the final state is written', async () => authority.revoke(vo, signal));
    expect(last.epoch).toBe(before.epoch + 1);
    // Again, as after a crash: the same.
    expect(await authority.revoke(vo, signal)).toEqual(last);
    const { genesis, jws, state } = await read(name);
    expect(state).toMatchObject({ state: 'Dissolved', keys: [], minEpoch: last.epoch });
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
    const { items } = await scene.client.list(`/api/v1/namespaces/${namespace}/secrets`);
    expect(items.filter(({ metadata }) => metadata?.name?.includes(vo.metadata.uid))).toEqual([]);
    expect((await read(name)).state.epoch).toBe(last.epoch);
  });

  test('an organization of the same name that comes later has nothing of it (threat 68)', async () => {
    scene.operator();
    const name = await found(12);
    const before = await settled(name, ({ keys }) => keys.length === 2);
    await scene.client.json('DELETE', `${organizations}/${name}`);
    await waitFor('its keys are gone', async () => {
      const { items } = await scene.client.list(`/api/v1/namespaces/${namespace}/secrets`);
      return !items.some(({ metadata }) => metadata?.name?.includes(before.metadata.uid));
    }, { limitMs: 20_000 }); // prettier-ignore
    const body = {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'VirtualOrganization',
      metadata: { name },
      spec: { administrators },
    };
    await scene.client.json('POST', organizations, { body });
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
  const operator = scene.operator();
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
