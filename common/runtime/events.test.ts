import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { type EventObject } from './builtin.ts';
import type { Client, EventDraft } from './contracts.ts';
import { NotFoundError } from './errors.ts';
import { BackgroundRecorder } from './events.ts';
import { settle, testParts } from './testing/parts.ts';

function aRecorder(options: { fails?: boolean; hangs?: boolean } = {}) {
  const clock = new VirtualClock();
  const created: EventObject[] = [];
  const patched: { name: string; body: { series: { count: number } } }[] = [];
  const parts = testParts(clock);
  const gate = async (signal?: AbortSignal): Promise<void> => {
    if (options.hangs === true)
      await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)));
    if (options.fails === true) throw new NotFoundError({ method: 'POST', path: '/' }, 404, {});
  };
  const client = {
    of: () => ({
      create: async (event: EventObject, { signal }: { signal?: AbortSignal }) => {
        await gate(signal);
        created.push(event);
      },
      patch: async ({ name }: { name: string }, { body }: { body: { series: { count: number } } }) => {
        await gate();
        patched.push({ name, body });
      },
    }),
  } as unknown as Client;
  const recorder = new BackgroundRecorder({ ...parts, client, controller: 'xtreemos.io/operator', instance: 'pod-1' });
  const results = async (): Promise<Record<string, number>> =>
    Object.fromEntries(
      (await parts.metrics.events.get()).values.map(({ labels, value }) => [String(labels.result), value]),
    );
  return { clock, created, patched, recorder, results };
}

const placed: EventDraft = {
  object: { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', namespace: 'vo-a', name: 'sum', uid: 'u' },
  type: 'Normal',
  reason: 'Placed',
  note: 'Placed on two sites',
};

describe('BackgroundRecorder', () => {
  test('writes an event with all that the API asks for', async () => {
    const { created, recorder } = aRecorder();
    recorder.publish(placed);
    await recorder.flush();
    expect(created).toEqual([
      {
        metadata: { name: expect.stringMatching(/^sum\.[0-9a-f]{16}$/), namespace: 'vo-a' },
        eventTime: '2026-01-01T00:00:00.000000Z',
        reportingController: 'xtreemos.io/operator',
        reportingInstance: 'pod-1',
        action: 'Placed',
        reason: 'Placed',
        regarding: placed.object,
        note: 'Placed on two sites',
        type: 'Normal',
      },
    ]);
  });

  test('events of cluster-scoped objects go to the default namespace', async () => {
    const { created, recorder } = aRecorder();
    recorder.publish({ ...placed, object: { apiVersion: 'v1', kind: 'Node', name: 'n' } });
    await recorder.flush();
    expect(created[0]?.metadata.namespace).toBe('default');
  });

  test('repeats are counted in one series, written at most every half minute', async () => {
    const { clock, created, patched, recorder } = aRecorder();
    for (let i = 0; i < 100; i++) {
      recorder.publish(placed);
      clock.advance(1_000);
      await settle();
    }
    expect(created).toHaveLength(1);
    expect(patched.length).toBeGreaterThanOrEqual(2);
    expect(patched.length).toBeLessThanOrEqual(3);
    expect(patched.at(-1)?.body.series.count).toBeGreaterThan(60);
  });

  test('the same event after six quiet minutes is a new one', async () => {
    const { clock, created, recorder } = aRecorder();
    recorder.publish(placed);
    clock.advance(360_000);
    recorder.publish(placed);
    await recorder.flush();
    expect(created).toHaveLength(2);
  });

  test('a chatty object is cut short, others are not', async () => {
    const { created, recorder, results } = aRecorder();
    for (let i = 0; i < 100; i++) recorder.publish({ ...placed, note: `Attempt ${i}` });
    recorder.publish({ ...placed, object: { ...placed.object, name: 'other' } });
    await recorder.flush();
    expect(created).toHaveLength(26);
    expect(await results()).toEqual({ limited: 75, written: 26 });
  });

  test('what cannot be written is counted, and never thrown at the caller', async () => {
    const { recorder, results } = aRecorder({ fails: true });
    recorder.publish(placed);
    await recorder.flush();
    expect(await results()).toEqual({ failed: 1 });
  });

  test('a long note is cut at 1024 bytes, between characters', async () => {
    const { created, recorder } = aRecorder();
    recorder.publish({ ...placed, note: '€'.repeat(1_000) });
    await recorder.flush();
    const note = created[0]?.note ?? '';
    expect(Buffer.byteLength(note)).toBeLessThanOrEqual(1_024);
    expect(note).toMatch(/^€+…$/);
  });

  test('keeps no more than it may when nothing can be written, and stops at once', async () => {
    const { recorder, results } = aRecorder({ hangs: true });
    for (let i = 0; i < 1_500; i++) {
      recorder.publish({ ...placed, object: { ...placed.object, name: `job-${i}` } });
    }
    await recorder.stop();
    recorder.publish(placed);
    expect(await results()).toEqual({ dropped: 1_499, failed: 1 });
  });
});
