/** A file system of a site and a volume on it, as their manifests make them: jobs on every node see the same files. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type Finished, runXos } from '#cli/testing/processes.ts';
import type { FileSystem } from '#crds/file-system.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Volume } from '#crds/volume.ts';
import { readReceipt } from '#operator/identity/testing/authority-compliance.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/index.ts';
import type { Faults } from '#sites/faults.ts';
import { openSites, type TestSite, waitFor } from '#sites/harness.ts';
import { killProcesses, podsOfComponent } from '../components.ts';
import { podsOfJob } from '../job-objects.ts';
import { type Login, Product } from '../product.ts';

jest.setTimeout(300_000);

const about = { apiVersion: 'xtreemos.io/v1alpha1' };
let product: Product;
let faults: Faults;
let site: TestSite;
let namespace: string;
let alice: Login;
let bob: Login;

beforeAll(async () => {
  const { faults: given } = await openSites();
  if (given === undefined) throw new Error('this provider has no faults: run with PROVIDER=local');
  faults = given;
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
  const isReady = ({ status }: Stored<Kind>): boolean => {
    const conditions: readonly { type: string; status: string }[] = status?.conditions ?? [];
    return conditions.some((condition) => condition.type === 'Ready' && condition.status === 'True');
  };
  return site.until(names, isReady, 150_000);
}

/** Runs the program as a member. */
const xos = async ({ login }: Login, command: string, ...words: string[]): Promise<Finished> =>
  runXos([...command.split(' '), ...login, ...words], {}, { limitMs: 200_000 });

/** Runs a job of one task on each of `count` nodes. @returns the logs of its tasks. */
async function run(name: string, count: number, script: string, limitMs = 150_000): Promise<string[]> {
  const template = { image: 'xtreemos.io/busybox:1', command: ['sh', '-c', script], resources: { cpu: '100m' } };
  const spec = {
    tasks: { count, gangMinimum: count },
    placement: { spread: 'Spread' },
    volumes: [{ volume: 'data', mountPath: '/data' }],
    template,
  };
  const job = { ...about, kind: 'GridJob', metadata: { name }, spec };
  await site.kubectl([...alice.login, 'create', '-f', '-'], { input: JSON.stringify(job) });
  const hasSucceeded = ({ status }: GridJob): boolean => status?.state === 'Succeeded';
  await site.until<Stored<GridJob>>(['gridjob', name, '-n', namespace], hasSucceeded, limitMs);
  const pods = await podsOf(name);
  expect(new Set(pods.map(({ spec: pod }) => pod?.nodeName)).size).toBe(count);
  return Promise.all(pods.map(async ({ metadata }) => site.kubectl(['logs', '-n', namespace, metadata.name])));
}

const podsOf = async (job: string): Promise<Pod[]> => podsOfJob(site, namespace, job);

/** Writes files until `/data/stop` is there; each is on disk, and its checksum beside it, before its number is in the log. */
const writeOnAndOn = `mkdir -p /data/files; i=0
while [ ! -e /data/stop ]; do
  i=$((i + 1)); file=/data/files/$XTREEMOS_JOB-$XTREEMOS_TASK_INDEX-$i
  head -c 262144 /dev/urandom > /dev/shm/block || exit 2
  dd if=/dev/shm/block of=$file bs=64k conv=fsync 2> /dev/null || exit 3
  sha256sum < /dev/shm/block > $file.sum || exit 4
  echo $i; sleep 1
done`;

/** Reads all of them, and says how many there are. */
const readAll = `for sum in /data/files/*.sum; do
  [ "$(cat $sum)" = "$(sha256sum < \${sum%.sum})" ] || { echo "$sum is wrong"; exit 5; }
done; ls /data/files/*.sum | wc -l`;

/** Number of the last file that each task has written. */
async function writtenBy(job: string): Promise<number[]> {
  const logs = (await podsOf(job)).map(async ({ metadata }) =>
    site.tryKubectl(['logs', '-n', namespace, '--tail=1', metadata.name]),
  );
  return (await Promise.all(logs)).map(({ stdout }) => Number(stdout.trim()));
}

/** Waits until every task has written more than it had. */
async function writesOn(job: string, count: number): Promise<void> {
  const before = await writtenBy(job);
  await waitFor(
    `${job} writes on after ${before.join(', ')}`,
    async () => {
      const now = await writtenBy(job);
      return now.length === count && now.every((number, index) => number > (before[index] ?? 0)) ? true : undefined;
    },
    { limitMs: 120_000 },
  );
}

async function restartsOf(component: string): Promise<number> {
  const counts = (await podsOfComponent(product, component)).flatMap(({ status }) =>
    (status?.containerStatuses ?? []).map(({ restartCount }) => restartCount),
  );
  return counts.reduce((sum, count) => sum + count, 0);
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

  test('is copied to and from by its members, each as who they are', async () => {
    const here = mkdtempSync(path.join(tmpdir(), 'xos-cp-'));
    const image = ['--image', 'xtreemos.io/busybox:1'];
    try {
      mkdirSync(path.join(here, 'up/deep'), { recursive: true });
      const content = randomBytes(3 * 2 ** 20 + 1);
      writeFileSync(path.join(here, 'up/deep/big'), content);
      writeFileSync(path.join(here, 'up/own'), 'mine', { mode: 0o600 });
      expect(await xos(alice, 'cp -r', ...image, path.join(here, 'up'), 'data:')).toMatchObject({
        code: 0,
        stderr: '',
      });
      const listed = await xos(alice, 'ls -l', ...image, 'data:up');
      // This ls cuts names off.
      expect(listed.stdout).toMatch(new RegExp(`^-rw------- .* ${alice.userName.slice(0, 8)} .* 4 .* own$`, 'm'));
      expect(await xos(alice, 'cp -r', ...image, 'data:up', path.join(here, 'down'))).toMatchObject({ code: 0 });
      expect(readFileSync(path.join(here, 'down/deep/big')).equals(content)).toBe(true);
      expect(readFileSync(path.join(here, 'down/own'), 'utf8')).toBe('mine');
      const theirs = await xos(bob, 'cp', ...image, 'data:up/own', here);
      expect(theirs.code).toBe(1);
      expect(theirs.stderr).toMatch(/up\/own can not be read: .*Permission denied/);
      expect(await site.kubectl(['get', 'gridjobs', '-n', namespace, '-o', 'name'])).not.toMatch(/files-/);
      await run('tidy', 1, 'rm -r /data/up');
    } finally {
      rmSync(here, { recursive: true });
    }
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

  test('loses and mixes up nothing while servers, node agents and the operator are killed under those who write', async () => {
    const count = site.nodes.length;
    const writing = run('steady', count, writeOnAndOn, 500_000);
    // What goes wrong is told by the wait below; this one is awaited after it.
    writing.catch(() => undefined);
    await writesOn('steady', count);
    for (const component of ['dir', 'mrc', 'osd', 'node-agent', 'operator']) {
      const restarts = await restartsOf(component);
      expect(await killProcesses(product, component)).toBeGreaterThan(0);
      await waitFor(`every ${component} was started again`, async () => (await restartsOf(component)) > restarts, {
        limitMs: 60_000,
      });
      await writesOn('steady', count);
    }
    for (const node of site.nodes) await faults.killProcess(site.name, node, 'kubelet');
    for (const node of site.nodes) await faults.restartProcess(site.name, node, 'kubelet');
    await writesOn('steady', count);
    await run('stop', 1, 'touch /data/stop');
    const written = (await writing).map((log) => Number(log.trim().split('\n').at(-1)));
    const total = written.reduce((sum, number) => sum + number, 0);
    const read = await run('read', count, readAll);
    expect(read.map((log) => log.trim())).toEqual(read.map(() => String(total)));
  }, 600_000);

  test('outlasts OSDs: the files of one that is to go move first, under those who write, and over a killed operator', async () => {
    const count = site.nodes.length;
    const files = 'mkdir -p /data/files; rm -f /data/stop; cd /data/files; for i in $(seq 400); do';
    await run('fill', 1, `${files} head -c 262144 /dev/urandom > f-$i; sha256sum < f-$i > f-$i.sum; done; sync`);
    const before = Number((await run('count', 1, readAll))[0]);
    const scale = async (osds: number): Promise<Stored<FileSystem>> => {
      const patch = JSON.stringify({ spec: { osds: { count: osds } } });
      await site.kubectl(['patch', 'xfs', 'main', '-n', product.name, '--type=merge', '-p', patch]);
      const isDone = ({ metadata, status }: Stored<FileSystem>): boolean =>
        status?.observedGeneration === metadata.generation &&
        status?.osds?.length === osds &&
        status.osdsReady === osds &&
        status.conditions?.some(({ type, status: is }) => type === 'Scaled' && is === 'True') === true;
      return site.until(['xfs', 'main', '-n', product.name], isDone, 240_000);
    };
    const { status: old } = await site.get<Stored<FileSystem>>('xfs', 'main', '-n', product.name);
    const writing = run('shrink', count, writeOnAndOn, 500_000);
    writing.catch(() => undefined);
    await writesOn('shrink', count);
    const scaling = scale(1);
    scaling.catch(() => undefined);
    const isDraining = ({ status }: Stored<FileSystem>): boolean =>
      status?.osds?.some(({ state }) => state === 'Draining') === true;
    await site.until<Stored<FileSystem>>(['xfs', 'main', '-n', product.name], isDraining, 60_000);
    expect(await killProcesses(product, 'operator')).toBeGreaterThan(0);
    await scaling;
    expect((await site.tryKubectl(['get', 'pod', 'main-osd-1', '-n', product.name])).status).not.toBe(0);
    expect((await site.tryKubectl(['get', 'pvc', 'data-main-osd-1', '-n', product.name])).status).not.toBe(0);
    await writesOn('shrink', count);
    const { status: grown } = await scale(2);
    // The name is the same, the OSD is another one: nobody takes what is on the new disk for what was on the old.
    expect(grown?.osds?.[1]?.uuid).not.toBe(old?.osds?.[1]?.uuid);
    await writesOn('shrink', count);
    await run('end', 1, 'touch /data/stop');
    const written = (await writing).map((log) => Number(log.trim().split('\n').at(-1)));
    const total = before + written.reduce((sum, number) => sum + number, 0);
    expect((await run('check', count, readAll)).map((log) => log.trim())).toEqual(written.map(() => String(total)));
    const events = await site.kubectl(['get', 'events', '-n', product.name, '-o', 'jsonpath={.items[*].reason}']);
    expect(events.split(' ')).toEqual(expect.arrayContaining(['Draining', 'AsDeclared']));
  }, 900_000);

  test('is the home of a member where the virtual organization says so: in all their jobs, and in nobody else’s', async () => {
    const homeVolumes = { size: '100Mi', reclaimPolicy: 'Delete' };
    await site.kubectl(['patch', 'vo', product.name, '--type=merge', '-p', JSON.stringify({ spec: { homeVolumes } })]);
    const home = `/home/${alice.userName}`;
    expect(await run('settle', 1, 'echo mine > $HOME/x; echo $HOME; stat -c "%u %a" $HOME')).toEqual([
      `${home}\n${alice.uid} 700\n`,
    ]);
    const seen = await run('return', site.nodes.length, 'cat ~/x');
    expect(seen).toEqual(site.nodes.map(() => 'mine\n'));

    const own = await xos(
      bob,
      'run',
      'xtreemos.io/busybox:1',
      '--',
      'sh',
      '-c',
      'ls -A $HOME | wc -l; ls /home | grep ^u-',
    );
    expect(own).toMatchObject({ code: 0, stdout: `0\n${bob.userName}\n` });
    const volumes = ['--volume', `home-${alice.userName}:/theirs`];
    await xos(bob, 'sub', '--name', 'nosy', ...volumes, 'xtreemos.io/busybox:1', '--', 'ls', '/theirs');
    await waitFor(
      'the task of the nosy job is refused',
      async () =>
        (await site.kubectl(['get', 'gx', '-n', namespace, '-o', 'json'])).includes('is the home of another member'),
      { limitMs: 60_000 },
    );
    await site.kubectl(['delete', 'gridjobs', '--all', '-n', namespace, '--timeout=60s']);
    await site.kubectl(['delete', 'vom', 'bob', '-n', namespace, '--timeout=60s']);
    await site.kubectl(['wait', 'gvol', `home-${bob.userName}`, '-n', namespace, '--for=delete', '--timeout=60s']);
    expect((await site.tryKubectl(['get', 'gvol', `home-${alice.userName}`, '-n', namespace])).status).toBe(0);
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

  test('goes with its virtual organization as its reclaim policy says, and the receipt tells which went and where the rest is', async () => {
    for (const [name, policy] of [
      ['kept', 'Retain'],
      ['gone', 'Delete'],
    ] as const) {
      const made = await xos(alice, 'volume create', name, '--reclaim', policy, '--wait', '--timeout', '150s');
      expect(made.code).toBe(0);
    }
    const kept = await site.get<Stored<Volume>>('gvol', 'kept', '-n', namespace);
    await site.kubectl(['delete', 'gridjobs', '--all', '-n', namespace, '--timeout=60s']);
    const dissolution = JSON.stringify({ spec: { dissolution: { data: 'Export' } } });
    await site.kubectl(['patch', 'vo', product.name, '--type=merge', '-p', dissolution]);
    const isDissolved = ({ status }: Stored<VirtualOrganization>): boolean =>
      status?.conditions?.some(({ type, status: is }) => type === 'Dissolved' && is === 'True') === true;
    const { status } = await site.until<Stored<VirtualOrganization>>(['vo', product.name], isDissolved, 150_000);
    const receipt = readReceipt(status?.sites?.[0]?.receipt ?? '');
    expect(receipt.volumes).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ claim: 'gone', outcome: 'Erased' }),
        expect.objectContaining({
          claim: 'kept',
          outcome: 'Retained',
          location: `vol-${kept.metadata.uid} on FileSystem ${product.name}/main`,
        }),
      ]),
    );
    expect((await site.tryKubectl(['get', 'namespace', namespace])).status).not.toBe(0);
  }, 300_000);
});
