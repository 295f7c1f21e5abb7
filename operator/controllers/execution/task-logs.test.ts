import { describe, expect, test } from '@jest/globals';
import { silentLogger } from '#common/logger.ts';
import { addKeptLogs, cutMark, keptLogBounds } from '#crds/kept-logs.ts';
import type { Transport, TransportRequest } from '#runtime/transport.ts';
import { KubeletLogs } from './task-logs.ts';

const pod = { namespace: 'vo-physics', name: 'u-alice-2013300123-job-0' };
const { signal } = new AbortController();

/** A kubelet that sends these chunks, and then fails or ends. */
function sending(chunks: readonly string[], failure?: Error): { logs: KubeletLogs; asked: TransportRequest[] } {
  const asked: TransportRequest[] = [];
  const bytes = async (request: TransportRequest, onChunk: (chunk: Buffer) => void): Promise<void> => {
    asked.push(request);
    for (const chunk of chunks) onChunk(Buffer.from(chunk));
    return failure === undefined ? Promise.resolve() : Promise.reject(failure);
  };
  return { logs: new KubeletLogs({ bytes } as Partial<Transport> as Transport, silentLogger), asked };
}

describe('the end of a log', () => {
  test('is asked of the container of the task, in a bounded number of lines', async () => {
    const { logs, asked } = sending(['one\n', 'two\n']);
    expect(await logs.tail(pod, signal)).toBe('one\ntwo\n');
    expect(asked[0]?.path).toBe(`/api/v1/namespaces/vo-physics/pods/${pod.name}/log?container=task&tailLines=1024`);
  });

  test('is what came last, however much comes, and is seen to be cut', async () => {
    const line = `${'x'.repeat(99)}\n`;
    const { logs } = sending([...Array.from({ length: 5_000 }, () => line), 'the end\n']);
    const text = (await logs.tail(pod, signal)) ?? '';
    expect(text.length).toBeLessThan(2 * keptLogBounds.taskMaxBytes);
    expect(text.endsWith('the end\n')).toBe(true);
    const [kept] = addKeptLogs([], [{ index: 0, run: 'r', isFailed: false, text }]);
    expect(kept?.text.startsWith(cutMark)).toBe(true);
  });

  test('is what came in time when a node stops answering, and nothing when nothing came', async () => {
    expect(await sending(['first words\n'], new Error('no answer')).logs.tail(pod, signal)).toBe('first words\n');
    expect(await sending([], new Error('no answer')).logs.tail(pod, signal)).toBeUndefined();
    expect(await sending([]).logs.tail(pod, signal)).toBe('');
  });
});
