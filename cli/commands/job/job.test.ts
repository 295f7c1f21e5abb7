import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { memberNameOf } from '#common/identity/ids.ts';
import type { GridJob } from '#crds/grid-job.ts';
import { JobOutput } from '../../output/job-output.ts';
import { aContext } from '../../testing/fakes.ts';
import { aJob, aJobApi, aTaskPod, type FakeJobs, type FakePod, me, noNeeds, plainDraft } from '../../testing/jobs.ts';
import { runningTask } from './connect.ts';
import { deliver } from './deliver.ts';
import { Follower } from './follow.ts';
import { parseSample } from './gauge.ts';
import { jobArea } from './index.ts';
import { parseIndices, printLogs } from './logs.ts';
import { printNodes } from './nodes.ts';
import { treeOf } from './printing.ts';
import { reservationSpec } from './reserve.ts';
import { printJobs } from './show.ts';
import { changeSignal, parseSignal } from './signals.ts';
import { endLine, exitStatusOf, stateLine } from './state.ts';
import { Gauges, look, show } from './top.ts';
import { draftsOf, documentsOf, followToEnd, organizationOf, submit } from './submit.ts';

const cluster = { context: undefined, kubeconfig: undefined, vo: undefined, namespace: undefined };
const submitting = { ...cluster, ...plainDraft, file: undefined };

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'xos-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('submitting', () => {
  const manifest = (name: string, text: string): string => {
    const file = path.join(folder, name);
    writeFileSync(file, text);
    return file;
  };
  const job = (name: string, namespace: string): string =>
    `apiVersion: xtreemos.io/v1alpha1\nkind: GridJob\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: {template: {image: a}}\n`;

  test('takes manifests, and the virtual organization from them', async () => {
    const file = manifest('two.yaml', `${job('a', 'vo-physics')}---\n${job('b', 'vo-physics')}`);
    const input = { ...submitting, image: undefined, command: [], name: undefined, file };
    const documents = await documentsOf(input);
    expect(organizationOf(input, documents).namespace).toBe('vo-physics');
    const api = aJobApi();
    await submit(aContext(), api, draftsOf(input, documents), false);
    expect([...api.jobs.stored.keys()]).toEqual(['vo-physics/a', 'vo-physics/b']);
  });

  test('refuses what contradicts itself', async () => {
    const file = manifest('one.yaml', job('a', 'vo-physics'));
    await expect(documentsOf({ ...submitting, file })).rejects.toThrow(/both say what to run/);
    await expect(documentsOf({ ...submitting, image: undefined, command: [] })).rejects.toThrow(/IMAGE: is missing/);
    const documents = await documentsOf({ ...submitting, image: undefined, command: [], file });
    expect(() => organizationOf({ ...cluster, ...submitting, vo: 'chemistry' }, documents)).toThrow(
      /chemistry was asked/,
    );
    const other = manifest(
      'other.yaml',
      'apiVersion: xtreemos.io/v1alpha1\nkind: Volume\nmetadata: {name: a}\nspec: {}\n',
    );
    await expect(documentsOf({ ...submitting, image: undefined, command: [], file: other })).rejects.toThrow(
      /"Volume" is not GridJob/,
    );
  });
});

const succeeded = { state: 'Succeeded', exitCode: 0 } as const;

describe('following a job', () => {
  test('shows its output as it is and ends with its status', async () => {
    const api = aJobApi(
      [aJob('a', { status: { state: 'Failed', exitCode: 3 } })],
      [aTaskPod('p', { log: 'one\ntwo' })],
    );
    const context = aContext();
    expect(await followToEnd(context, api, 'a')).toBe(3);
    expect(context.stdout()).toBe('one\ntwo');
    expect(context.stderr()).toBe('a failed with exit status 3\n');
  });

  test('names the tasks where there are several', async () => {
    const pods = [aTaskPod('p', { log: 'one\n' }), aTaskPod('q', { index: 1, log: 'two' })];
    const api = aJobApi([aJob('a', { spec: { tasks: { count: 2 } }, status: succeeded })], pods);
    const context = aContext();
    await new Follower(context, api, { tasks: undefined, timestamps: false }).untilEnd('a');
    expect(context.stdout().split('\n').sort()).toEqual(['', '[0] one', '[1] two']);
  });

  test('takes a log up where its connection broke', async () => {
    const api = aJobApi([aJob('a', { status: succeeded })], [aTaskPod('p', { log: 'abcdefgh', breaks: 2 })]);
    const context = aContext();
    await new Follower(context, api, { tasks: undefined, timestamps: false }).untilEnd('a');
    expect(context.stdout()).toBe('abcdefgh');
  });

  test('reads more logs than it reads at once', async () => {
    const pods = Array.from({ length: 100 }, (_, index) => aTaskPod(`p${index}`, { index, log: `${index}\n` }));
    const api = aJobApi([aJob('a', { spec: { tasks: { count: 100 } }, status: succeeded })], pods);
    const context = aContext();
    await new Follower(context, api, { tasks: undefined, timestamps: false }).untilEnd('a');
    expect(context.stdout().trim().split('\n')).toHaveLength(100);
  });

  test('ends the job when it is interrupted', async () => {
    const api = aJobApi([aJob('a', { status: { state: 'Running' } })]);
    const controller = new AbortController();
    controller.abort(new Error('Got SIGINT'));
    const context = { ...aContext(), signal: controller.signal };
    await expect(followToEnd(context, api, 'a')).rejects.toThrow('Got SIGINT');
    expect(api.jobs.stored.get('vo-physics/a')?.spec.signal).toEqual({ name: 'TERM', sequence: 1 });
  });

  test('says so when the job is deleted', async () => {
    await expect(followToEnd(aContext(), aJobApi(), 'a')).rejects.toThrow('a was deleted while it was followed');
  });
});

describe('logs', () => {
  const all = { tasks: undefined, tailLines: undefined, timestamps: false };
  const three = aJob('a', { spec: { tasks: { count: 3 } } });
  const kept = (index: number, run: string, text: string) => ({ index, run, isFailed: false, text });

  test('of chosen tasks only, in their order', async () => {
    const pods = [2, 0, 1].map((index) => aTaskPod(`p${index}`, { index, log: `${index}` }));
    const context = aContext();
    await printLogs(context, aJobApi([], pods), three, { ...all, tasks: new Set([0, 2]) });
    expect(context.stdout()).toBe('[0] 0\n[2] 2\n');
  });

  test('of pods that are gone are those that were kept', async () => {
    const api = aJobApi([], [aTaskPod('p', { run: 'r2', log: 'second\n' })]);
    api.kept.push(kept(0, 'r1', 'one\nfirst\n'), kept(0, 'r2', 'not this\n'), kept(1, 'r1', 'other'));
    const context = aContext();
    await printLogs(context, api, three, { ...all, tailLines: 1 });
    expect(context.stdout()).toBe('[0] first\n[0] second\n[1] other\n');
  });

  test('that were kept end what is followed', async () => {
    const api = aJobApi([aJob('a', { status: succeeded })], [aTaskPod('p', { run: 'r2', log: 'second\n' })]);
    api.kept.push(kept(0, 'r1', 'first\n'), kept(0, 'r2', 'second\n'));
    const context = aContext();
    await new Follower(context, api, { tasks: undefined, timestamps: false }).untilEnd('a');
    expect(context.stdout()).toBe('second\nfirst\n');
  });

  test('of what has not started are not there', async () => {
    const read = printLogs(aContext(), aJobApi([], [aTaskPod('p', { hasStarted: false })]), three, all);
    await expect(read).rejects.toThrow(/Nothing of a has started/);
  });

  /** A job of two tasks, of which the second runs at another site. */
  const parted = (more: object = {}): GridJob => {
    const row = { index: 1, run: 'r1', site: 'lyon', pod: 'p1', state: 'Running' as const };
    const tasks = { waiting: 0, starting: 0, running: 1, succeeded: 0, failed: 0, rows: [row] };
    return aJob('a', { spec: { tasks: { count: 2 } }, status: { tasks, ...more } });
  };
  const there = aTaskPod('p1', { index: 1, log: 'there\n', isRunning: true });

  test('of tasks that run at other sites are read there', async () => {
    const api = aJobApi([parted()], [aTaskPod('p0', { index: 0, log: 'here\n' })]);
    api.elsewhere.push(there);
    const context = aContext();
    await printLogs(context, api, parted(), all);
    expect(context.stdout()).toBe('[0] here\n[1] there\n');
    const pod = await runningTask(aContext(), api, { ...cluster, job: 'a', task: 1 });
    expect(pod).toMatchObject({ name: 'p1', site: 'lyon', job: 'a', run: 'r1' });
  });

  test('of tasks at a site that is away are told to be missing, and the others are read', async () => {
    const context = aContext();
    await printLogs(context, aJobApi([], [aTaskPod('p0', { index: 0, log: 'here\n' })]), parted(), all);
    expect(context.stdout()).toBe('[0] here\n');
    expect(context.stderr()).toContain('the log of task 1 can not be read');
    await expect(printLogs(aContext(), aJobApi(), parted(), all)).rejects.toThrow(/it has ended/);
  });

  test('of tasks at other sites are followed, and taken up where the connection broke', async () => {
    const api = aJobApi([parted(succeeded)]);
    api.elsewhere.push({ ...there, log: 'one\ntwo\n', breaks: 1 });
    const context = aContext();
    await new Follower(context, api, { tasks: undefined, timestamps: false }).untilEnd('a');
    expect(context.stdout()).toBe('[1] one\n[1] two\n');
    expect(api.read).toHaveLength(2);
  });

  test('of a task that ended at another site before it was read are those that were kept', async () => {
    const api = aJobApi([parted(succeeded)]);
    api.kept.push({ ...kept(1, 'r1', 'kept\n') });
    const context = aContext();
    await new Follower(context, api, { tasks: undefined, timestamps: false }).untilEnd('a');
    expect(context.stdout()).toBe('[1] kept\n');
  });

  test.each([
    ['3', [3]],
    ['1-3', [1, 2, 3]],
  ])('of indices %s', (text, indices) => expect(parseIndices(text)).toEqual(indices));
  test.each(['', 'a', '3-1', '-1', '1-'])('refuses %j', (text) => expect(() => parseIndices(text)).toThrow(/TASKS/));
});

describe('output of tasks', () => {
  const nasty = '\u001b[31mred\u001b[0m \u001b]52;c;ZXZpbA==\u0007\u001b[2J progress\rdone\r\n';

  test('does nothing to a terminal but colour it (threat 54)', () => {
    const context = aContext({ isTerminal: true });
    const output = new JobOutput(context.terminal, undefined);
    for (const byte of Buffer.from(nasty)) output.write(Buffer.from([byte]));
    output.end();
    expect(context.stdout()).toBe('\u001b[31mred\u001b[0m \\x1b]52;c;ZXZpbA==\\x07\\x1b[2J progress\ndone\n');
  });

  test('is passed on byte by byte in a pipe', () => {
    const context = aContext();
    new JobOutput(context.terminal, undefined).write(Buffer.from(nasty));
    expect(context.stdout()).toBe(nasty);
  });

  test('never keeps more than one line in memory', () => {
    const context = aContext();
    const output = new JobOutput(context.terminal, 7);
    for (let count = 0; count < 100; count++) output.write(Buffer.alloc(10_000, 'x'));
    expect(context.stdout().length).toBeGreaterThan(900_000);
  });
});

describe('signals', () => {
  test('are counted, and not sent to what has ended', async () => {
    const api = aJobApi([aJob('a', { status: { state: 'Running' } }), aJob('b', { status: succeeded })]);
    await changeSignal(aContext(), api, 'a', 'TERM');
    await changeSignal(aContext(), api, 'a', 'KILL');
    expect(api.jobs.stored.get('vo-physics/a')?.spec.signal).toEqual({ name: 'KILL', sequence: 2 });
    expect((await changeSignal(aContext(), api, 'b', 'KILL')).isChanged).toBe(false);
    await expect(changeSignal(aContext(), api, 'c', 'KILL')).rejects.toThrow('No job is called c; there are: a, b');
  });

  test.each(['9', 'KILL', 'kill', 'SIGKILL'])('are called %s', (text) => expect(parseSignal(text)).toBe('KILL'));
  test('that there are not are refused', () => expect(() => parseSignal('WINCH')).toThrow('not one of TERM, KILL'));

  const running = (index: number, job: string): FakePod =>
    aTaskPod(`${job}-${index}`, { index, job, hasStarted: true, isRunning: true });
  const child = { spec: { parent: { job: 'a', uid: 'uid-a' } } };

  test('that end a job reach one that has ended while something below it has not', async () => {
    const parent = aJob('a', { spec: { gridAccess: true }, status: succeeded });
    const jobs = [parent, aJob('b', child)].map((job) => ({
      ...job,
      metadata: { ...job.metadata, uid: `uid-${job.metadata.name}` },
    }));
    const api = aJobApi(jobs);
    expect((await changeSignal(aContext(), api, 'a', 'TERM')).isChanged).toBe(true);
    expect(api.jobs.stored.get('vo-physics/a')?.spec.signal).toEqual({ name: 'TERM', sequence: 1 });
    api.jobs.put({ ...jobs[1]!, status: { state: 'Killed' } });
    expect((await changeSignal(aContext(), api, 'a', 'TERM')).isChanged).toBe(false);
  });

  test('that do not end a job are handed to each running task, also of jobs that were submitted from within', async () => {
    const jobs = [aJob('a'), aJob('b', child), aJob('c')].map((job) => ({
      ...job,
      metadata: { ...job.metadata, uid: `uid-${job.metadata.name}` },
    }));
    const ended = aTaskPod('a-2', { index: 2, job: 'a' });
    const api = aJobApi(jobs, [running(0, 'a'), running(1, 'a'), ended, running(0, 'b'), running(0, 'c')]);
    const context = aContext();
    await deliver(context, api, 'a', 'USR1');
    expect(api.connected.map(({ pod }) => pod)).toEqual(['a-0', 'a-1', 'b-0']);
    expect(api.connected[0]?.request.command).toEqual(['/bin/sh', '-c', 'kill -s USR1 1']);
    expect(context.stdout()).toBe('a: SIGUSR1 reached 3 tasks\n');
  });

  test('are handed to tasks at other sites too', async () => {
    const row = { index: 1, run: 'r1', site: 'lyon', pod: 'a-1', state: 'Running' as const };
    const tasks = { waiting: 0, starting: 0, running: 2, succeeded: 0, failed: 0, rows: [row] };
    const api = aJobApi([aJob('a', { status: { state: 'Running', tasks } })], [running(0, 'a')]);
    await deliver(aContext(), api, 'a', 'USR1');
    expect(api.connected.map(({ pod, site }) => [pod, site])).toEqual([
      ['a-0', undefined],
      ['a-1', 'lyon'],
    ]);
  });

  test('that do not arrive are told, with the reason', async () => {
    const api = aJobApi([aJob('a', { status: { state: 'Running' } })], [running(0, 'a'), running(1, 'a')]);
    api.commands.set('a-1', { says: 'exec: "/bin/sh": no such file\n', status: 127 });
    const context = aContext();
    await expect(deliver(context, api, 'a', 'HUP')).rejects.toThrow(
      'SIGHUP did not reach 1 of 2 tasks:\na, task 1: exec: "/bin/sh": no such file',
    );
    expect(context.stdout()).toBe('a: SIGHUP reached 1 task\n');
    await expect(deliver(aContext(), aJobApi([aJob('a')]), 'a', 'HUP')).rejects.toThrow('No task of a runs');
  });

  test('are given as Unix users write them', () => {
    const rewrite = jobArea.commands.find(({ path: name }) => name === 'kill')?.rewrite;
    expect(rewrite?.(['-9', 'a'])).toEqual(['--signal', '9', 'a']);
    expect(rewrite?.(['-SIGTERM', 'a', '-n', 'vo-x', '--wait'])).toEqual([
      '--signal',
      'SIGTERM',
      'a',
      '-n',
      'vo-x',
      '--wait',
    ]);
  });
});

describe('top', () => {
  const reading = (at: number, cpuMicros: number, memory: number): string =>
    `${at} 7.0\nusage_usec ${cpuMicros}\nuser_usec 1\n${memory}\nanon 5\ninactive_file 1048576\n.\n`;

  test('reads what the kernel tells of a control group, and nothing else', () => {
    expect(parseSample(reading(10.5, 2_500_000, 3_145_728))).toEqual({
      at: 10.5,
      cpuSeconds: 2.5,
      memoryBytes: 2_097_152,
    });
    const older = '10.5 7\ninactive_file 7\ntotal_inactive_file 1048576\n3145728\nusage_nsec 2500000000\n';
    expect(parseSample(older)).toEqual(parseSample(reading(10.5, 2_500_000, 3_145_728)));
    for (const text of ['', 'cat: no such file', '10 7\nusage_usec x\n5', '10 7\nusage_usec 5\nmax']) {
      expect(parseSample(text)).toBeUndefined();
    }
  });

  test('shows the hungriest task first, says what it could not read, and lets go of what has ended', async () => {
    const pods = [0, 1, 2].map((index) => aTaskPod(`p${index}`, { index, isRunning: true, node: `n${index}` }));
    const api = aJobApi([aJob('a')], [...pods, aTaskPod('other', { job: 'b', isRunning: true })]);
    api.commands.set('p0', { says: reading(10, 0, 2_097_152) + reading(12, 1_000_000, 2_097_152), status: undefined });
    api.commands.set('p1', { says: reading(10, 0, 2_097_152) + reading(12, 3_000_000, 4_194_304), status: undefined });
    api.commands.set('p2', { says: 'no such file', status: 127 });
    const gauges = new Gauges(api, new VirtualClock());
    const input = { jobs: [], owner: me };
    await look(aContext(), api, input, gauges);
    await Promise.resolve();
    const { tasks, more } = await look(aContext(), api, input, gauges);
    expect(tasks.map(({ task, cpu, memoryBytes, problem }) => [task, cpu, memoryBytes, problem])).toEqual([
      [1, 1.5, 3_145_728, undefined],
      [0, 0.5, 1_048_576, undefined],
      [2, undefined, undefined, 'no such file'],
    ]);
    expect([more, gauges.areKnown]).toEqual([0, true]);
    pods.splice(0, 2);
    api.pods.splice(0, 2);
    await look(aContext(), api, input, gauges);
    expect(gauges.of(pods[0]!)).toBeDefined();
    expect(api.endings.get('p0')?.aborted).toBe(true);
    gauges.stop();
    expect(api.endings.get('p2')?.aborted).toBe(true);
  });
});

describe('top, as it is shown', () => {
  const input = { ...cluster, jobs: [], everyone: false, output: 'table' as const };
  const aTask = (): FakeJobs => {
    const api = aJobApi([aJob('a')], [aTaskPod('p0', { isRunning: true, node: 'n0' })]);
    const reading = (at: number, micros: number): string =>
      `${at} 7.0\nusage_usec ${micros}\n2097152\ninactive_file 1048576\n.\n`;
    api.commands.set('p0', { says: reading(10, 0) + reading(12, 3_000_000), status: undefined });
    return api;
  };
  const row = /^a +0 +n0 +1\.50 +1\.0Mi .* true$/m;

  test('is one table in a pipe, without anything that a terminal obeys', async () => {
    const [context, api] = [aContext(), aTask()];
    const gauges = new Gauges(api, context.clock);
    await show(context, api, input, gauges);
    gauges.stop();
    expect(context.stdout().match(/^JOB +TASK +NODE +CPU +MEMORY/gm)).toHaveLength(1);
    expect(context.stdout()).toMatch(row);
    expect(context.stdout()).not.toContain('\u001b');
  });

  test('is drawn anew on a terminal, with a line for all of it, until it is interrupted', async () => {
    const [base, api] = [aContext({ isTerminal: true }), aTask()];
    let sleeps = 0;
    const sleep = async (ms: number): Promise<void> => {
      if (++sleeps > 3) throw new Error('interrupted');
      await base.clock.sleep(ms);
    };
    const context = { ...base, clock: { ...base.clock, sleep } };
    const gauges = new Gauges(api, context.clock);
    await expect(show(context, api, input, gauges)).rejects.toThrow('interrupted');
    gauges.stop();
    const screens = base.stdout().split('\u001b[H\u001b[2J').slice(1);
    expect(screens.length).toBeGreaterThan(1);
    for (const screen of screens) {
      expect(screen).toMatch(/^1 running task, 1\.50 CPU, 1\.0Mi$/m);
      expect(screen).toMatch(row);
    }
  });
});

describe('what is said of a job', () => {
  const waiting = (status: object): GridJob => aJob('a', { status: { state: 'Waiting', ...status } });
  test.each([
    [aJob('a'), 'submitted'],
    [
      waiting({ waiting: [{ site: 's', reason: 'Not enough free cpu', nodes: 2 }] }),
      'waiting: Not enough free cpu (2 nodes)',
    ],
    [waiting({}), 'waiting'],
    [aJob('a', { status: { state: 'Running' } }), 'running'],
  ])('%#', (job, line) => expect(stateLine(job)).toBe(line));

  test.each([
    [aJob('a', { status: succeeded }), 0, ''],
    [aJob('a', { status: { state: 'Failed', exitCode: 9 } }), 9, 'a failed with exit status 9'],
    [aJob('a', { status: { state: 'Failed' } }), 1, 'a failed: '],
    [aJob('a', { spec: { signal: { name: 'KILL' } }, status: { state: 'Killed' } }), 137, 'a killed: '],
    [aJob('a', { status: { state: 'Killed' } }), 143, 'a killed: '],
  ])('%# as an exit status', (job, status, line) => {
    expect([exitStatusOf(job), endLine(job)]).toEqual([status, line]);
  });
});

describe('ps', () => {
  const psInput = {
    ...{
      ...cluster,
      everyone: false,
      all: false,
      full: false,
      user: undefined,
      watch: false,
      output: 'table' as const,
    },
  };
  const jobs = [
    aJob('mine', { status: { state: 'Running' } }),
    aJob('done', { status: succeeded }),
    aJob('theirs', { spec: { owner: 'u-bob-2013300124' }, status: { state: 'Running' } }),
  ];

  test('shows what runs of the caller, and says what it leaves out', async () => {
    const context = aContext({ isTerminal: true });
    await printJobs(context, aJobApi(jobs), psInput, me);
    expect(context.stdout().split('\n').slice(1, -1)).toEqual([
      expect.stringMatching(/^mine +u-alice-2013300123 +Running/),
    ]);
    expect(context.stderr()).toContain('1 that ended is not shown');
  });

  test('of somebody by handle', async () => {
    const context = aContext();
    await printJobs(context, aJobApi(jobs), { ...psInput, output: 'name' }, 'bob');
    expect(context.stdout()).toBe('gridjob.xtreemos.io/theirs\n');
  });

  test('shows children below their parents', () => {
    const child = aJob('child', { spec: { parent: { job: 'mine', uid: 'uid-mine' } } });
    const orphan = aJob('orphan', { spec: { parent: { job: 'gone', uid: 'uid-gone' } } });
    const known = [child, orphan, ...jobs].map((job) => ({
      ...job,
      metadata: { ...job.metadata, uid: `uid-${job.metadata.name}` },
    }));
    const rows = treeOf(known).map(({ job, depth }) => `${depth} ${job.metadata.name}`);
    expect(rows).toEqual(['0 done', '0 mine', '1 child', '0 orphan', '0 theirs']);
  });
});

describe('which task is meant', () => {
  const input = { ...cluster, job: 'a', task: undefined };
  const running = (index: number) => aTaskPod(`p${index}`, { index, isRunning: true });

  test('is the one that runs, or the one that is named', async () => {
    const job = aJob('a', { status: { state: 'Running' } });
    expect((await runningTask(aContext(), aJobApi([job], [aTaskPod('old'), running(0)]), input)).name).toBe('p0');
    const several = aJobApi([job], [running(0), running(1)]);
    expect((await runningTask(aContext(), several, { ...input, task: 1 })).name).toBe('p1');
    await expect(runningTask(aContext(), several, input)).rejects.toThrow('--task: is needed: 2 tasks of a run (0, 1)');
    await expect(runningTask(aContext(), several, { ...input, task: 5 })).rejects.toThrow('Task 5 of a does not run');
  });
});

describe('nodes', () => {
  const answer = {
    nodes: [
      {
        site: 'rennes',
        node: 'b',
        attributes: { arch: 'arm64' },
        free: { cpu: 500, memory: 2 ** 30 },
        live: {},
        fits: 1,
      },
      { site: 'rennes', node: 'a', attributes: { arch: 'amd64' }, free: { cpu: 1850 }, live: { load1: 0.5 }, fits: 18 },
    ],
    refusals: [{ reason: 'Not enough free cpu', nodes: 3 }],
    isWhole: false,
  };

  test('are shown in order, with why others would not and that there may be more', async () => {
    const context = aContext({ isTerminal: true });
    await printNodes(context, 'table', answer);
    expect(
      context
        .stdout()
        .split('\n')
        .map((line) => line.split(/ {3,}/)),
    ).toEqual([
      [
        expect.stringContaining('NODE'),
        'SITE',
        'FITS',
        'FREE CPU',
        'FREE MEMORY',
        'LOAD',
        expect.stringContaining('ARCH'),
      ],
      ['a', 'rennes', '18', '1.9', '0.0Gi', '0.50', 'amd64'],
      ['b', 'rennes', '1', '0.5', '1.0Gi', '-', 'arm64'],
      [''],
      [expect.stringContaining('NODES'), expect.stringContaining('WHY THEY WOULD NOT')],
      ['3', 'Not enough free cpu'],
      [''],
    ]);
    expect(context.stderr()).toContain('There may be more');
  });
});

describe('reservations', () => {
  const reserving = {
    ...{ ...cluster, ...noNeeds, name: 'r', slots: 2, start: undefined, end: undefined, for: 60, every: undefined },
    ...{ until: undefined, atStart: undefined, group: [], member: [], dryRun: false, wait: false, timeout: 1000 },
    output: 'table' as const,
  };
  const now = Date.parse('2026-11-25T12:00:00Z');

  test('begin at moments that people write', () => {
    const spec = reservationSpec({ ...reserving, cpu: '2', start: '24h', every: 'Day', until: '2026-12-31' }, now);
    expect(JSON.parse(JSON.stringify(spec))).toEqual({
      slots: 2,
      resources: { cpu: '2' },
      window: {
        start: '2026-11-26T12:00:00Z',
        durationSeconds: 60,
        recurrence: { every: 'Day', until: '2026-12-31T23:59:59Z' },
      },
    });
  });

  test('say how long they last, once', () => {
    expect(() => reservationSpec({ ...reserving, for: undefined }, now)).toThrow(/--for/);
    expect(() => reservationSpec({ ...reserving, end: '24h' }, now)).toThrow(/--for/);
    expect(() => reservationSpec({ ...reserving, every: 'Day' }, now)).toThrow(/--until/);
  });
});

test('a member is known by the name of the service account', () => {
  expect(memberNameOf(`system:serviceaccount:vo-physics:${me}`, 'vo-physics')).toBe(me);
  expect(memberNameOf(`system:serviceaccount:vo-other:${me}`, 'vo-physics')).toBeUndefined();
  expect(memberNameOf('alice', 'vo-physics')).toBeUndefined();
});
