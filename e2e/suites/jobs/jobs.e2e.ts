/** Jobs of a member on a real site: nodes are found by the selectors, pods run as the member, also while the operator is killed. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { TopReport } from '#cli/commands/job/top.ts';
import { type Finished, runXos } from '#cli/testing/processes.ts';
import type { Execution } from '#crds/execution.ts';
import type { GridJob } from '#crds/grid-job.ts';
import { type KeptLogsObject, keptLogsName, readKeptLogs } from '#crds/kept-logs.ts';
import type { Reservation } from '#crds/reservation.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/index.ts';
import { type TestSite, waitFor } from '#sites/harness.ts';
import { aTask, podsOfJob, shellImage } from '../job-objects.ts';
import { type Login, Product } from '../product.ts';

jest.setTimeout(180_000);

let product: Product;
let site: TestSite;
let namespace: string;
let alice: Login;

beforeAll(async () => {
  product = await Product.install('suite-jobs');
  ({ site, namespace } = product);
  await product.formOrganization();
  await product.join('alice');
  alice = await product.logIn('alice');
}, 480_000);

afterAll(async () => {
  await site.tryKubectl(['delete', 'gridjobs', '--all', '-n', namespace, '--timeout=60s'], { timeoutMs: 70_000 });
  await product.uninstall();
});

/** Submits as the member, from a manifest. */
async function submit(name: string, spec: object): Promise<{ status: number; stdout: string; stderr: string }> {
  const job = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name }, spec };
  return site.tryKubectl([...alice.login, 'create', '-f', '-'], { input: JSON.stringify(job) });
}

const until = async (name: string, is: (job: Stored<GridJob>) => boolean, limitMs = 90_000): Promise<Stored<GridJob>> =>
  site.until(['gridjob', name, '-n', namespace], is, limitMs);
const state =
  (wanted: string) =>
  (job: GridJob): boolean =>
    job.status?.state === wanted;
const podsOf = async (name: string): Promise<Pod[]> => podsOfJob(site, namespace, name);

/** What was kept of the tasks of a job, by index, once there is so much. */
async function keptLog(name: string, count: number): Promise<string[]> {
  return waitFor(`${count} logs of ${name} are kept`, async () => {
    const { uid } = (await site.get<Stored<Execution>>('execution', name, '-n', namespace)).metadata;
    const found = await site.tryKubectl(['get', 'configmap', keptLogsName(name), '-n', namespace, '-o', 'json']);
    const kept = found.status === 0 ? readKeptLogs(JSON.parse(found.stdout) as KeptLogsObject, uid) : [];
    return kept.length === count ? kept.map(({ text }) => text) : undefined;
  });
}

describe('a job of a member', () => {
  test('runs as them, on a node that promised the room', async () => {
    expect(await submit('hello', { template: aTask('id; echo on $XTREEMOS_NODE') })).toMatchObject({ status: 0 });
    const job = await until('hello', state('Succeeded'));
    const [row] = job.status?.tasks?.rows ?? [];
    expect(job.spec.owner).toBe(alice.userName);
    const [pod] = await podsOf('hello');
    const log = await site.kubectl(['logs', '-n', namespace, pod!.metadata.name]);
    expect(log).toContain(`uid=${alice.uid}(${alice.userName})`);
    expect(site.nodes).toContain(pod!.spec?.nodeName);
    expect(log).toContain(`on ${pod!.spec?.nodeName ?? ''}`);
    expect(row).toBeUndefined();
  });

  test('of many tasks spreads over the nodes, and a gang starts whole', async () => {
    await submit('array', { tasks: { count: 20 }, placement: { spread: 'Spread' }, template: aTask('sleep 1') });
    await submit('gang', { tasks: { count: 6, gangMinimum: 6 }, template: aTask('sleep 2', '200m') });
    const job = await until('array', state('Succeeded'));
    expect(job.status?.tasks).toMatchObject({ succeeded: 20, succeededIndexes: '0-19' });
    expect(new Set((await podsOf('array')).map(({ spec }) => spec?.nodeName)).size).toBe(site.nodes.length);
    await until('gang', state('Succeeded'));
    const starts = (await podsOf('gang')).map(({ metadata }) => Date.parse(metadata.creationTimestamp ?? ''));
    expect(Math.max(...starts) - Math.min(...starts)).toBeLessThanOrEqual(5_000);
  });

  test('tells its exit status, waits for others, and says why it has no node', async () => {
    await submit('fails', { template: aTask('echo no luck >&2; exit 3') });
    await submit('after', { dependsOn: [{ job: 'fails', when: 'Failed' }], template: aTask('true') });
    await submit('huge', { template: aTask('true', '64') });
    const failed = await until('fails', state('Failed'));
    expect(failed.status?.exitCode).toBe(3);
    expect(failed.status?.tasks?.rows[0]?.message).toMatch(/exit status 3.*no luck/s);
    await until('after', state('Succeeded'));
    const huge = await until('huge', (job) => (job.status?.waiting?.length ?? 0) > 0);
    expect(huge.status?.waiting?.[0]).toMatchObject({
      ...{
        site: 'home',
        nodes: site.nodes.length,
        reason: expect.stringMatching(/^Not enough free cpu: 64000 wanted/),
      },
    });
  });

  test('is suspended, goes on, and is killed', async () => {
    await submit('long', { template: aTask('echo began; sleep 600') });
    await until('long', (job) => job.status?.tasks?.running === 1);
    const patch = async (spec: object): Promise<unknown> =>
      site.kubectl([...alice.login, 'patch', 'gridjob', 'long', '--type=merge', '-p', JSON.stringify({ spec })]);
    await patch({ suspend: true });
    await until('long', (job) => state('Suspended')(job) && job.status?.tasks?.running === 0);
    await patch({ suspend: false });
    await until('long', (job) => job.status?.tasks?.running === 1);
    await patch({ signal: { name: 'KILL', sequence: 1 } });
    await until('long', state('Killed'));
    expect(await keptLog('long', 1)).toEqual(['began\n']);
    const [pod] = await podsOf('hello');
    await site.kubectl(['delete', 'pod', pod!.metadata.name, '-n', namespace]);
    expect(await keptLog('hello', 1)).toEqual([expect.stringContaining(`uid=${alice.uid}`)]);
  });

  test('can not be submitted as somebody else, nor by somebody who is no member', async () => {
    const forged = await submit('forged', { owner: 'u-bob-2013300124', template: aTask('true') });
    expect(forged.stderr).toMatch(/spec\.owner: u-bob-2013300124 is not who asks/);
    const job = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name: 'stray', namespace } };
    const input = JSON.stringify({ ...job, spec: { template: aTask('true') } });
    const stray = await site.tryKubectl(['create', '-f', '-'], { input });
    expect(stray.stderr).toMatch(/spec\.owner: is not set: submit as a member/);
  });
});

describe('what happens to a running job', () => {
  /** Pods of a job that are to go on, by name of node. */
  const running = async (name: string): Promise<Pod[]> =>
    (await podsOf(name)).filter(
      ({ metadata, status }) => metadata.deletionTimestamp === undefined && status?.phase === 'Running',
    );

  /** Until nodes have promised every slot. */
  const heldSlots = async (): Promise<void> => {
    const isHeld = ({ status }: Reservation): boolean => status?.state === 'Held' || status?.state === 'Active';
    await site.until<Stored<Reservation>>(['reservation', 'slots', '-n', namespace], isHeld, 60_000);
  };

  test('a reservation begins on time on real nodes: work that gives way is gone, and what was reserved is used', async () => {
    // As much as there is room for, on every node.
    await submit('filler', { tasks: { count: 40 }, preemptible: true, template: aTask('sleep 900', '500m') });
    const filled = await waitFor('the nodes are full', async () => {
      const job = await site.get<Stored<GridJob>>('gridjob', 'filler', '-n', namespace);
      const { running: isRunning = 0, starting = 0 } = job.status?.tasks ?? {};
      return isRunning > 1 && starting === 0 && (job.status?.waiting?.length ?? 0) > 0 ? job : undefined;
    });
    const startMs = Math.ceil((Date.now() + 20_000) / 1000) * 1000;
    const window = { start: new Date(startMs).toISOString(), durationSeconds: 1_800 };
    const spec = { slots: 2, resources: { cpu: '500m', memory: '32Mi' }, window };
    const object = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'Reservation', metadata: { name: 'slots' }, spec };
    await site.kubectl([...alice.login, 'create', '-f', '-'], { input: JSON.stringify(object) });
    await heldSlots();
    await submit('guest', { reservation: 'slots', tasks: { count: 2 }, template: aTask('date +%s; sleep 2', '500m') });
    const guest = await until('guest', state('Succeeded'), 240_000);
    expect(guest.status?.tasks).toMatchObject({ succeeded: 2, failed: 0 });
    for (const began of await keptLog('guest', 2)) expect(1000 * Number(began)).toBeGreaterThanOrEqual(startMs);
    const filler = await site.get<Stored<Execution>>('execution', 'filler', '-n', namespace);
    expect(filler.spec.failures).toEqual([]);
    expect(filler.status?.tasks?.rows.map(({ reason }) => reason)).toContain('Preempted');
    await until('filler', (job) => (job.status?.tasks?.running ?? 0) < (filled.status?.tasks?.running ?? 0));
    await site.kubectl([...alice.login, 'delete', 'reservation', 'slots']);
    await until('filler', (job) => job.status?.tasks?.running === filled.status?.tasks?.running);
    await site.kubectl([...alice.login, 'delete', 'gridjob', 'filler', '--wait=false']);
    await waitFor('the filler is gone', async () => (await podsOf('filler')).length === 0);
  }, 600_000);

  test('a gang as large as the site has its turn although small jobs keep coming', async () => {
    const task = (seconds: number): object => aTask(`sleep ${seconds}`, '500m');
    await submit('slots', { tasks: { count: 40 }, template: task(900) });
    const full = await until(
      'slots',
      ({ status }) => (status?.waiting?.length ?? 0) > 0 && status?.tasks?.starting === 0,
    );
    const slots = full.status?.tasks?.running ?? 0;
    expect(slots).toBeGreaterThan(1);
    await site.kubectl([...alice.login, 'delete', 'gridjob', 'slots', '--wait=false']);
    await waitFor('the slots are free', async () => (await podsOf('slots')).length === 0);
    let count = 0;
    /** Enough for every slot, and more than end meanwhile. */
    const stream = async (): Promise<void> => {
      const items = Array.from({ length: slots }, () => ({
        ...{ apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name: `small-${count++}` } },
        spec: { template: task(5), ttlSecondsAfterFinished: 600 },
      }));
      const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
      await site.kubectl([...alice.login, 'create', '-f', '-'], { input });
    };
    await stream();
    await stream();
    await until('small-0', (job) => job.status?.tasks?.running === 1);
    await submit('large', { tasks: { count: slots, gangMinimum: slots }, template: task(2) });
    const before = count;
    const large = await waitFor(
      'the gang has run',
      async () => {
        await stream();
        const job = await site.get<Stored<GridJob>>('gridjob', 'large', '-n', namespace);
        return job.status?.state === 'Succeeded' ? job : undefined;
      },
      { limitMs: 180_000, pauseMs: 3_000 },
    );
    const startedAt = Date.parse(large.status?.startTime ?? '');
    // It keeps others back from half a minute on, and what runs by then needs time to end.
    expect(startedAt - Date.parse(large.metadata.creationTimestamp)).toBeLessThan(90_000);
    const { items } = await site.get<{ items: Stored<GridJob>[] }>('gridjobs', '-n', namespace);
    const passed = items.filter(
      ({ metadata: { name }, status }) =>
        name.startsWith('small-') && Number(name.slice(6)) >= before && Date.parse(status?.startTime ?? '') < startedAt,
    );
    expect(passed.length).toBeGreaterThan(0);
    const selector = items.flatMap(({ metadata: { name } }) => (name.startsWith('small-') ? [name] : []));
    await site.kubectl([...alice.login, 'delete', 'gridjob', 'large', ...selector, '--wait=false']);
    await waitFor('nothing small is left', async () => (await podsOf('small-0')).length === 0);
  }, 420_000);

  test('whose pod somebody deletes it runs again, and that does not count as a failure', async () => {
    await submit('resilient', { template: aTask('sleep 900') });
    const [first] = await waitFor('it runs', async () => {
      const pods = await running('resilient');
      return pods.length === 1 ? pods : undefined;
    });
    await site.kubectl(['delete', 'pod', first!.metadata.name, '-n', namespace, '--wait=false']);
    await waitFor('another run is there', async () =>
      (await running('resilient')).some(({ metadata }) => metadata.name !== first!.metadata.name),
    );
    expect((await site.get<Stored<Execution>>('execution', 'resilient', '-n', namespace)).spec.failures).toEqual([]);
    await site.kubectl([...alice.login, 'delete', 'gridjob', 'resilient', '--wait=false']);
  });

  test('an image that is not there is told with the name of the trouble, and the job can be ended', async () => {
    const template = { ...aTask('true'), image: 'xtreemos.io/no-such-image:1', imagePullPolicy: 'Never' };
    await submit('imageless', { template });
    const job = await until('imageless', (now) => now.status?.tasks?.rows[0]?.reason === 'ErrImageNeverPull');
    expect(job.status?.tasks).toMatchObject({ starting: 1, running: 0 });
    expect(job.status?.tasks?.rows[0]?.message).toContain('xtreemos.io/no-such-image:1');
    const spec = { signal: { name: 'KILL', sequence: 1 } };
    await site.kubectl([
      ...[...alice.login, 'patch', 'gridjob', 'imageless', '--type=merge', '-p', JSON.stringify({ spec })],
    ]);
    await until('imageless', state('Killed'));
  });
});

describe('xos', () => {
  /** Runs the program as the member. */
  const xos = async ([command = '', ...words]: readonly string[], stdin = ''): Promise<Finished> =>
    runXos([command, ...alice.login, ...words], {}, { stdin });

  test('run shows what the job says, and passes its exit status on', async () => {
    const done = await xos(['run', shellImage, '--', 'sh', '-c', 'id -un; exit 3']);
    expect(done).toMatchObject({ code: 3, stdout: `${alice.userName}\n` });
    expect(done.stderr).toMatch(/failed with exit status 3/);
    const several = await xos(['run', '--tasks', '3', shellImage, '--', 'sh', '-c', 'echo task $XTREEMOS_TASK_INDEX']);
    expect(several.stdout.split('\n').sort()).toEqual(['', '[0] task 0', '[1] task 1', '[2] task 2']);
    expect(several.code).toBe(0);
  });

  test('sub, ps, logs, suspend, resume, kill and wait act on one job from its start to its end', async () => {
    const script = 'trap "echo signalled" USR1; for i in 1 2 3; do echo line $i; done; while :; do sleep 0.2; done';
    const { stdout } = await xos(['sub', '--name', 'worker', '--grace', '1s', shellImage, '--', 'sh', '-c', script]);
    expect(stdout).toBe('worker\n');
    expect((await xos(['wait', '--for', 'started', 'worker'])).stdout).toBe('worker Running\n');
    expect((await xos(['ps'])).stdout).toMatch(new RegExp(`^worker +${alice.userName} +Running`, 'm'));
    await waitFor(
      'the log is there',
      async () => (await xos(['logs', 'worker'])).stdout === 'line 1\nline 2\nline 3\n',
    );
    expect((await xos(['kill', '-USR1', 'worker'])).stdout).toBe('worker: SIGUSR1 reached 1 task\n');
    await waitFor('the task has it', async () => (await xos(['logs', 'worker'])).stdout.endsWith('signalled\n'));
    const { tasks } = JSON.parse((await xos(['top', 'worker', '-o', 'json'])).stdout) as TopReport;
    expect(tasks).toEqual([
      expect.objectContaining({ job: 'worker', task: 0, cpu: expect.any(Number), memoryBytes: expect.any(Number) }),
    ]);
    expect(tasks[0]!.memoryBytes).toBeGreaterThan(0);
    // Nothing goes on in the container once nobody looks.
    await waitFor('the shell that read is gone', async () => {
      const { stdout } = await xos(['exec', 'worker', '--', 'sh', '-c', 'cat /proc/[0-9]*/cmdline | tr "\\0" " "']);
      return !stdout.includes('memory.stat');
    });
    expect((await xos(['suspend', 'worker', '--wait'])).code).toBe(0);
    await until('worker', (job) => state('Suspended')(job) && job.status?.tasks?.running === 0);
    expect((await xos(['resume', 'worker'])).code).toBe(0);
    await until('worker', (job) => job.status?.tasks?.running === 1);
    expect((await xos(['kill', '-9', 'worker', '--wait'])).code).toBe(0);
    expect(await xos(['wait', 'worker'])).toMatchObject({ code: 137, stdout: 'worker Killed\n' });
  });

  test('exec and attach reach into a running task, with input, exit status and terminal', async () => {
    const script = 'while read line; do echo "got $line"; test "$line" = end && exit 5; done';
    await xos(['sub', '--name', 'reader', '--interactive', shellImage, '--', 'sh', '-c', script]);
    await until('reader', (job) => job.status?.tasks?.running === 1);
    expect(await xos(['exec', 'reader', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7'])).toEqual({
      ...{ code: 7, stdout: 'out\n', stderr: 'err\n' },
    });
    const bytes = 'x'.repeat(3_000_000);
    expect((await xos(['exec', '-i', 'reader', '--', 'wc', '-c'], bytes)).stdout.trim()).toBe('3000000');
    expect((await xos(['exec', 'reader', '--', 'no-such-program'])).stderr).toMatch(/no-such-program.*not found/);
    const attached = await xos(['attach', 'reader'], 'one\nend\n');
    expect(attached.stdout).toContain('got one');
    expect(attached.code).toBe(5);
  });

  test('explain says why a job waits, and reserve keeps room', async () => {
    await xos(['sub', '--name', 'greedy', '--cpu', '64', shellImage, '--', 'true']);
    await until('greedy', (job) => (job.status?.waiting?.length ?? 0) > 0);
    expect((await xos(['explain', 'greedy'])).stdout).toMatch(/Not enough free cpu: 64000 wanted.*Ask for less/);
    const kept = await xos(['reserve', 'room', '--slots', '2', '--cpu', '100m', '--for', '1m', '--wait']);
    expect(kept.stdout).toMatch(/^room +u-alice-\d+ +(Held|Active) +2/m);
    expect((await xos(['run', '--reservation', 'room', shellImage, '--', 'echo', 'inside'])).stdout).toBe('inside\n');
  });

  test('says what is wrong in words that help', async () => {
    expect(await xos(['logs', 'no-such-job'])).toMatchObject({
      code: 5,
      stderr: expect.stringContaining('No job is called'),
    });
    const wrong = await xos(['sub', '--cpu', 'lots', shellImage]);
    expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('spec.template.resources.cpu') });
  });
});

test('the operator is killed while jobs run: none is lost, and no task runs twice', async () => {
  const names = Array.from({ length: 6 }, (_, index) => `killed-${index}`);
  for (const name of names) await submit(name, { tasks: { count: 3 }, template: aTask('sleep 3') });
  for (let round = 0; round < 3; round++) {
    const selector = 'app.kubernetes.io/component=operator';
    await site.kubectl(['delete', 'pods', '-n', product.name, '-l', selector, '--force', '--grace-period=0']);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
  }
  for (const name of names) await until(name, state('Succeeded'), 150_000);
  for (const name of names) expect([name, (await podsOf(name)).length]).toEqual([name, 3]);
}, 400_000);
