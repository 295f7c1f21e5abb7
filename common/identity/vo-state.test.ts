import { beforeAll, describe, expect, test } from '@jest/globals';
import { signJws } from './jws.ts';
import { aKey, startMs, TestOrganization } from './testing/organization.ts';
import {
  idBase,
  signFreshness,
  signGenesis,
  StateKeeper,
  stateType,
  verifyFreshness,
  verifyGenesis,
  verifyState,
} from './vo-state.ts';

let vo: TestOrganization;
let other: TestOrganization;

beforeAll(async () => {
  [vo, other] = [await TestOrganization.found(), await TestOrganization.found('chemistry')];
});

describe('the founding document', () => {
  test('is pinned by its digest, which does not depend on the signature', async () => {
    const again = await signGenesis(vo.root, {
      vo: vo.genesis.content.vo,
      slice: 7,
      homeSite: 'rennes',
      iat: startMs / 1000,
    });
    expect(again).not.toBe(vo.genesisJws);
    expect((await verifyGenesis(again)).digest).toBe(vo.genesis.digest);
  });

  test('of another virtual organization with the same name is not taken', async () => {
    const impostor = await TestOrganization.found('physics');
    await expect(verifyGenesis(impostor.genesisJws, vo.genesis.digest)).rejects.toMatchObject({
      problem: 'WrongIssuer',
    });
  });

  test('must be signed by the key that it names', async () => {
    const [head, payload] = vo.genesisJws.split('.');
    const [, , signature] = other.genesisJws.split('.');
    await expect(verifyGenesis(`${head}.${payload}.${signature}`)).rejects.toMatchObject({ problem: 'BadSignature' });
  });
});

describe('a state', () => {
  test('is taken from the root key only', async () => {
    for (const key of [vo.signing, other.root, await aKey()]) {
      const forged = await signJws(key, stateType, vo.content());
      await expect(verifyState(forged, vo.genesis)).rejects.toMatchObject({ problem: 'UnknownKey' });
    }
  });

  test('of another virtual organization is not taken, though the key is right', async () => {
    const foreign = await signJws(vo.root, stateType, vo.content({ genesis: other.genesis.digest }));
    await expect(verifyState(foreign, vo.genesis)).rejects.toMatchObject({ problem: 'WrongIssuer' });
  });

  test('of the largest size is taken, and its size does not grow with members', async () => {
    const groups = Array.from({ length: 256 }, (_, index) => ({
      name: `g${index}-${'x'.repeat(120)}`.slice(0, 128),
      gid: idBase + 7 * 65_536 + 1 + index,
    }));
    const jws = await vo.stateJws({ groups });
    expect(jws.length).toBeLessThan(131_072);
    expect((await verifyState(jws, vo.genesis)).content.groups).toHaveLength(256);
  });

  test.each([
    ['a private key', { keys: [{ kty: 'EC', crv: 'P-256', x: 'a', y: 'b', d: 'c', nbf: 0, exp: 1 }] }],
    ['an epoch of nothing', { epoch: 0 }],
    ['a field that nobody defined', { members: [] }],
    ['an id outside of all slices', { groups: [{ name: 'wheel', gid: 0 }] }],
  ])('with %s is not taken', async (_, changes) => {
    const jws = await signJws(vo.root, stateType, { ...vo.content(), ...changes });
    await expect(verifyState(jws, vo.genesis)).rejects.toMatchObject({ problem: 'Malformed' });
  });
});

describe('whoever keeps states (threat 29)', () => {
  test('takes newer ones, and the same one again', async () => {
    const keeper = new StateKeeper(vo.genesis);
    const second = await vo.stateJws({ epoch: 2 });
    await keeper.accept(await vo.stateJws());
    await keeper.accept(second);
    await keeper.accept(second);
    expect(keeper.state?.content.epoch).toBe(2);
  });

  test('refuses an older one', async () => {
    const keeper = new StateKeeper(vo.genesis);
    await keeper.accept(await vo.stateJws({ epoch: 5 }));
    await expect(keeper.accept(await vo.stateJws({ epoch: 4 }))).rejects.toMatchObject({ problem: 'OlderEpoch' });
    expect(keeper.state?.content.epoch).toBe(5);
  });

  test('refuses two contents for one epoch, but not two signatures of one content', async () => {
    const keeper = new StateKeeper(vo.genesis);
    await keeper.accept(await vo.stateJws({ epoch: 5 }));
    await keeper.accept(await vo.stateJws({ epoch: 5 }));
    await expect(keeper.accept(await vo.stateJws({ epoch: 5, state: 'Frozen' }))).rejects.toMatchObject({
      problem: 'SameEpochOtherContent',
    });
    expect(keeper.state?.content.state).toBe('Operational');
  });
});

describe('that a state is the newest', () => {
  test('is believed for as long as the state says', async () => {
    const state = await vo.state();
    const jws = await signFreshness(vo.signing, state, startMs);
    await expect(verifyFreshness(jws, state, startMs + 899_000)).resolves.toBeUndefined();
    await expect(verifyFreshness(jws, state, startMs + 901_000)).rejects.toMatchObject({ problem: 'Stale' });
    await expect(verifyFreshness(jws, state, startMs - 61_000)).rejects.toMatchObject({ problem: 'NotYetValid' });
  });

  test('is said of one state only', async () => {
    const jws = await signFreshness(vo.signing, await vo.state(), startMs);
    await expect(verifyFreshness(jws, await vo.state({ epoch: 2 }), startMs)).rejects.toMatchObject({
      problem: 'WrongIssuer',
    });
    await expect(verifyFreshness(jws, await other.state(), startMs)).rejects.toMatchObject({ problem: 'UnknownKey' });
  });
});
