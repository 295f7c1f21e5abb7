import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { ProcessTable } from './process-table.ts';
import { isAlive, recordProcess, signalProcess, startProcess, stopProcess } from './processes.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'processes-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const sleep = ['/bin/sleep', '60'] as const;

describe('a recorded process', () => {
  test('is alive until it is stopped', async () => {
    const record = await startProcess({ command: sleep, logPath: join(dir, 'log') });
    expect(isAlive(record)).toBe(true);
    await stopProcess(record);
    expect(isAlive(record)).toBe(false);
  });

  test('is killed when it ignores the polite signal', async () => {
    const command = ['/bin/sh', '-c', "trap '' TERM; echo ready; while :; do sleep 0.05; done"] as const;
    const record = await startProcess({ command, logPath: join(dir, 'log') });
    while (!readFileSync(join(dir, 'log'), 'utf8').includes('ready')) await new Promise((done) => setTimeout(done, 5));
    await stopProcess(record, { graceMs: 100 });
    expect(isAlive(record)).toBe(false);
  });

  test.each([
    ['started at another time', { startTicks: '1' }],
    ['is of another boot', { bootId: 'another' }],
  ])('is not taken for a process of the same pid that %s', async (_what, change) => {
    const own = recordProcess(process.pid);
    const stranger = { ...own, ...change };
    expect(isAlive(own)).toBe(true);
    expect(isAlive(stranger)).toBe(false);
    // Were it taken for ours, this would end the test run.
    expect(signalProcess(stranger, 'SIGKILL')).toBe(false);
    await stopProcess(stranger);
  });

  test('says which program could not be started', async () => {
    const start = startProcess({ command: ['/no/such/program'], logPath: join(dir, 'log') });
    await expect(start).rejects.toThrow(/could not start \/no\/such\/program/);
  });
});

describe('a process table', () => {
  const table = (): ProcessTable => new ProcessTable({ dir: join(dir, 'run'), logDir: join(dir, 'logs') });

  test('found again from its folder, knows what runs', async () => {
    await table().start('sleeper', sleep);
    expect(table().names()).toEqual(['sleeper']);
    expect(table().isRunning('sleeper')).toBe(true);
    await table().stop('sleeper');
    expect(table().isRunning('sleeper')).toBe(false);
  });

  test('starts a name once', async () => {
    await table().start('sleeper', sleep);
    const first = table().find('sleeper')?.process.pid;
    await table().start('sleeper', sleep);
    expect(table().find('sleeper')?.process.pid).toBe(first);
    await table().kill('sleeper');
  });

  test('restarts with the same command and another pid', async () => {
    await table().start('sleeper', sleep);
    const first = table().find('sleeper');
    await table().restart('sleeper');
    const second = table().find('sleeper');
    expect(second?.command).toEqual(first?.command);
    expect(second?.process.pid).not.toBe(first?.process.pid);
    await table().kill('sleeper');
  });

  test('shows the end of the log of what ended too early', async () => {
    await table().start('failing', ['/bin/sh', '-c', 'echo no such thing; exit 1']);
    while (table().isRunning('failing')) await new Promise((done) => setTimeout(done, 5));
    expect(() => table().assertRunning('failing')).toThrow(/failing ended.*no such thing/s);
  });

  test('passes over a damaged record, as a crash while writing leaves it', () => {
    const broken = table();
    writeFileSync(join(dir, 'run', 'broken.json'), '{"name": "bro');
    expect(broken.find('broken')).toBeUndefined();
    expect(broken.isRunning('broken')).toBe(false);
    expect(broken.list()).toEqual([]);
  });

  test('says which names there are when asked for another', async () => {
    await expect(table().restart('nothing')).rejects.toThrow(/no process is called nothing; there are:/);
  });
});
