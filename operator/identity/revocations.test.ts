import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { Informer, InformerEvent } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import { Revocations } from './revocations.ts';
import { revocationSeconds } from './state-content.ts';

const uid = 2_013_267_000;
const hour = 3600;

/** What a new process notes of a member who was found in a list, seconds from now until when their tokens may live. */
function notedOf(state: { spec: string; ready: 'True' | 'False'; sinceSeconds: number }): number[] {
  const clock = new VirtualClock();
  const lastTransitionTime = new Date(clock.now() - state.sinceSeconds * 1000).toISOString();
  const conditions = [{ type: 'Ready', status: state.ready, reason: 'Any', message: '', lastTransitionTime }];
  const object = {
    metadata: { name: 'ada', namespace: 'vo-physics', creationTimestamp: lastTransitionTime },
    spec: { state: state.spec, roles: [], groups: [], capabilities: [] },
    status: { uid, state: state.ready === 'True' ? 'Active' : 'Suspended', conditions },
  } as unknown as Stored<VOMembership>;
  const listeners: ((event: InformerEvent<VOMembership>) => void)[] = [];
  const informer = { onEvent: (listener: (typeof listeners)[number]) => listeners.push(listener) };
  const revocations = new Revocations(informer as unknown as Informer<VOMembership>, clock);
  for (const tell of listeners) tell({ type: 'added', object, initial: true });
  return revocations.of('physics').map(({ until }) => Math.round(until - clock.now() / 1000));
}

describe('a member who is found suspended by a process that has just started', () => {
  test('counts from when that was noticed', () => {
    expect(notedOf({ spec: 'Suspended', ready: 'False', sinceSeconds: 600 })).toEqual([revocationSeconds - 600]);
    expect(notedOf({ spec: 'Suspended', ready: 'False', sinceSeconds: 2 * hour })).toEqual([]);
  });

  test('counts from now when nobody has noticed it yet, however long they were a member', () => {
    expect(notedOf({ spec: 'Suspended', ready: 'True', sinceSeconds: 100 * hour })).toEqual([revocationSeconds]);
  });

  test('is nobody while they are a member', () => {
    expect(notedOf({ spec: 'Active', ready: 'True', sinceSeconds: 600 })).toEqual([]);
  });
});
