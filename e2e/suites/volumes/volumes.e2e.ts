/** A file system of a site and a volume on it, as their manifests make them: jobs on every node see the same files. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type Finished, runXos } from '#cli/testing/processes.ts';
import type { FileSystem } from '#crds/file-system.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { Volume } from '#crds/volume.ts';
import { podLabels } from '#crds/execution.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/index.ts';
import { type TestSite, waitFor } from '#sites/harness.ts';
import { type Login, Product } from '../product.ts';

jest.setTimeout(300_000);

const about = { apiVersion: 'xtreemos.io/v1alpha1' };
let product: Product;
let site: TestSite;
let namespace: string;
let alice: Login;
let bob: Login;

beforeAll(async () => {
  product = await Product.install('suite-volumes');
  ({ site, namespace } = product);
  await product.formOrganization();
  await product.join('alice');
  await product.join('bob');
  alice = await product.logIn('alice');
  bob = await product.logIn('bob');
}, 480_000);

afterAll(async () => {
  await site.tryKubectl(['delete', 'gridjobs', '--all', '-n', namespace, '--timeout=60s'], { timeoutMs: 70_000 });
  await site.tryKubectl(['delete', 'gvol', '--all', '-n', namespace, '--timeout=60s'], { timeoutMs: 70_000 });
  await site.tryKubectl(['delete', 'xfs', '--all', '-n', product.name, '--timeout=60s'], { timeoutMs: 70_000 });
  await product.uninstall();
}, 300_000);

/** Waits until an object's condition Ready is True. @throws with its status when it is not in time. */
async function ready<Kind extends Volume | FileSystem>(
  ...names: [plural: string, name: string, flag: string, namespace: string]
): Promise<Stored<Kind>> {
  let last: Stored<Kind> | undefined;
  return waitFor(
    `${names.join(' ')} is ready`,
    async () => {
      last = await site.get<Stored<Kind>>(...names);
      const conditions: readonly { type: string; status: string }[] = last.status?.conditions ?? [];
      return conditions.some(({ type, status }) => type === 'Ready' && status === 'True') ? last : undefined;
    },
    { limitMs: 150_000 },
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last?.status)}`);
  });
}

/** Runs the program as a member. */
const xos = async ({ login }: Login, command: string, ...words: string[]): Promise<Finished> =>
  runXos([...command.split(' '), ...login, ...words], {}, { limitMs: 200_000 });

/** Runs a job of one task on each of `count` nodes. @returns the logs of its tasks. */
async function run(name: string, count: number, script: string): Promise<string[]> {
  const template = { image: 'xtreemos.io/busybox:1', command: ['sh', '-c', script], resources: { cpu: '100m' } };
  const spec = {
    tasks: { count, gangMinimum: count },
    placement: { spread: 'Spread' },
    volumes: [{ volume: 'data', mountPath: '/data' }],
    template,
  };
  const job = { ...about, kind: 'GridJob', metadata: { name }, spec };
  await site.kubectl([...alice.login, 'create', '-f', '-'], { input: JSON.stringify(job) });
  let last: Stored<GridJob> | undefined;
  await waitFor(
    `${name} has succeeded`,
    async () => {
      last = await site.get<Stored<GridJob>>('gridjob', name, '-n', namespace);
      return last.status?.state === 'Succeeded' ? true : undefined;
    },
    { limitMs: 150_000 },
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last?.status)}`);
  });
  const { items } = await site.get<{ items: Pod[] }>('pods', '-n', namespace, '-l', `${podLabels.job}=${name}`);
  expect(new Set(items.map(({ spec: pod }) => pod?.nodeName)).size).toBe(count);
  return Promise.all(items.map(async ({ metadata }) => site.kubectl(['logs', '-n', namespace, metadata.name])));
}

describe('a volume', () => {
  test('is there once a file system serves', async () => {
    const fileSystem = { ...about, kind: 'FileSystem', metadata: { name: 'main', namespace: product.name } };
    await site.apply([{ ...fileSystem, spec: { osds: { count: 2 }, allowedVirtualOrganizations: [product.name] } }]);
    await ready<FileSystem>('xfs', 'main', '-n', product.name);
    await waitFor(
      'both OSDs serve',
      async () => {
        const { status } = await site.get<Stored<FileSystem>>('xfs', 'main', '-n', product.name);
        return status?.osds?.length === 2 && status.osds.every(({ ready: isReady }) => isReady);
      },
      { limitMs: 60_000 },
    );
    const made = await xos(alice, 'volume create', 'data', '--reclaim', 'Delete', '--wait', '--timeout', '150s');
    expect(made).toMatchObject({ code: 0, stdout: `Volume data of ${product.name} is made\n` });
    const { spec, status } = await ready<Volume>('gvol', 'data', '-n', namespace);
    expect(status?.claimName).toBe('data');
    expect(spec.owner).toBe(alice.userName);
    expect((await xos(bob, 'volume list')).stdout).toMatch(
      new RegExp(`^data +${alice.userName} +True +Available`, 'm'),
    );
  });

  test('threat 16: is changed, granted and deleted by its owner only', async () => {
    const attempts = [
      await xos(bob, 'volume grant', 'data', 'chemistry:write'),
      await xos(bob, 'volume resize', 'data', '2Gi'),
      await xos(bob, 'volume delete', 'data'),
    ];
    for (const { code, stderr } of attempts) {
      expect(code).not.toBe(0);
      expect(stderr).toMatch(new RegExp(`Volume data belongs to ${alice.userName}: only its owner`));
    }
  });

  test('grows while it is there', async () => {
    const grown = await xos(alice, 'volume resize', 'data', '2Gi', '--wait', '--timeout', '150s');
    expect(grown).toMatchObject({ code: 0, stdout: 'Volume data has the size 2Gi\n' });
    const { status } = await site.get<Stored<Volume>>('gvol', 'data', '-n', namespace);
    expect(status?.sizeBytes).toBe(2 * 2 ** 30);
  });

  test('shows the same files under the same owner on every node', async () => {
    const count = site.nodes.length;
    // A file is there before it is written: it gets the name that the others wait for once it is closed.
    const write = 'i=$XTREEMOS_TASK_INDEX; echo from $i > /data/.$i; mv /data/.$i /data/$i';
    const wait = `while [ "$(ls /data | wc -l)" -lt ${count} ]; do sleep 1; done`;
    const logs = await run('meet', count, `${write}; ${wait}; cat /data/*; stat -c '%u %U' /data/0`);
    const lines = [...Array.from({ length: count }, (_, index) => `from ${index}`), `${alice.uid} ${alice.userName}`];
    for (const log of logs) expect(log.trim().split('\n')).toEqual(lines);
  });

  test('takes the output of jobs, and gives them input', async () => {
    const files = ['--volume', 'data:/data', '--stdin', 'data:0', '--stdout', 'data:%j/%t', '--stderr', 'data:errors'];
    const job = ['--name', 'files', ...files, 'xtreemos.io/busybox:1', '--'];
    expect(
      await xos(alice, 'run', '--volume', 'data:/data', 'xtreemos.io/busybox:1', '--', 'mkdir', '/data/files'),
    ).toMatchObject({ code: 0 });
    const done = await xos(alice, 'run', ...job, 'sh', '-c', 'read line; echo "got $line"; echo oh >&2');
    expect(done).toMatchObject({ code: 0, stdout: '' });
    const [log = ''] = await run('look', 1, 'cat /data/files/0 /data/errors; rm -r /data/files /data/errors');
    expect(log.trim().split('\n')).toEqual(['got from 0', 'oh']);
  });

  test('keeps its files when every server is killed, and when node agents start again', async () => {
    const parts = ['dir', 'mrc', 'osd'].map((part) => `app.kubernetes.io/component in (${part})`);
    for (const selector of [...parts, 'app.kubernetes.io/component=node-agent']) {
      await site.tryKubectl(['delete', 'pods', '-n', product.name, '-l', selector, '--force', '--grace-period=0']);
    }
    await ready<FileSystem>('xfs', 'main', '-n', product.name);
    const logs = await run('again', site.nodes.length, 'cat /data/0; echo more >> /data/more; sync');
    for (const log of logs) expect(log.trim()).toBe('from 0');
  });

  test('is erased with its object', async () => {
    await site.kubectl(['delete', 'gridjobs', '--all', '-n', namespace, '--timeout=60s']);
    const gone = await xos(alice, 'volume delete', 'data', '--wait', '--timeout', '90s');
    expect(gone).toMatchObject({
      code: 0,
      stdout: `Volume data of ${product.name} is deleted; its files are erased\n`,
    });
    expect((await site.tryKubectl(['get', 'pvc', 'data', '-n', namespace])).status).not.toBe(0);
  });
});
