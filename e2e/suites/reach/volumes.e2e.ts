/** A volume that one site keeps is mounted at another, through both gateways: the same bytes under the same names, as the same members. */
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { FileSystem } from '#crds/file-system.ts';
import type { Volume } from '#crds/volume.ts';
import type { Stored } from '#runtime/index.ts';
import { type TestSite, waitFor } from '#sites/harness.ts';
import { killProcesses } from '../components.ts';
import { aTask } from '../job-objects.ts';
import type { Login } from '../product.ts';
import { peerNames, TwoSites } from './two-sites.ts';

jest.setTimeout(300_000);

const about = { apiVersion: 'xtreemos.io/v1alpha1' };
const name = 'suite-reach-volumes';
const namespace = `vo-${name}`;
const { home: near, away: far } = peerNames;
let sites: TwoSites;
let home: TestSite;
let away: TestSite;
let alice: Login;
let bob: Login;

beforeAll(async () => {
  sites = await TwoSites.start({
    ...{ name, nodes: 1, isFollowed: true },
    populate: async (product) => {
      await product.join('alice');
      await product.join('bob');
    },
  });
  [home, away] = [sites.home.site, sites.away.site];
  const fileSystem = { ...about, kind: 'FileSystem', metadata: { name: 'main', namespace: name } };
  await home.apply([{ ...fileSystem, spec: { osds: { count: 2 }, allowedVirtualOrganizations: [name] } }]);
  [alice, bob] = [await sites.home.logIn('alice'), await sites.home.logIn('bob')];
  await home.until<Stored<FileSystem>>(['xfs', 'main', '-n', name], isReady, 150_000);
  const spec = { size: '1Gi', reclaimPolicy: 'Delete', striping: { width: 2, stripeSizeKiB: 128 } };
  const volume = { ...about, kind: 'Volume', metadata: { name: 'data' }, spec };
  await home.kubectl([...alice.login, 'create', '-f', '-'], { input: JSON.stringify(volume) });
  await home.until<Stored<Volume>>(['gvol', 'data', '-n', namespace], isReady, 60_000);
}, 600_000);

afterAll(async () => {
  await TwoSites.remove(name);
}, 120_000);

function isReady({ status }: Stored<Volume> | Stored<FileSystem>): boolean {
  const conditions: readonly { type: string; status: string }[] = status?.conditions ?? [];
  return conditions.some((condition) => condition.type === 'Ready' && condition.status === 'True');
}

/** Runs a task at one of the sites, with the volume, and waits for its end. @returns its exit status and log. */
async function run(job: string, site: string, script: string, member = alice): Promise<{ exit: number; log: string }> {
  await start(job, site, script, member);
  const { status } = await sites.jobIs(job, ({ status: each }) => ['Succeeded', 'Failed'].includes(each?.state ?? ''));
  const where = site === near ? home : away;
  const [pod, ...others] = await sites.podsAt(where, job);
  expect(pod).toBeDefined();
  expect(others).toEqual([]);
  return { exit: status?.exitCode ?? 0, log: await where.kubectl(['logs', '-n', namespace, pod?.metadata.name ?? '']) };
}

async function start(job: string, site: string, script: string, member = alice): Promise<void> {
  const volumes = [{ volume: 'data', mountPath: '/data' }];
  await sites.submit(job, { placement: { sites: { in: [site] } }, volumes, template: aTask(script) }, member);
}

test('a Volume of the home stands at the other site under its name', async () => {
  const mirrored = await away.until<Stored<Volume>>(['gvol', 'data', '-n', namespace], isReady, 60_000);
  const kept = await home.get<Stored<Volume>>('gvol', 'data', '-n', namespace);
  expect(mirrored.spec).toMatchObject({
    remote: { site: near, volumeUID: kept.metadata.uid },
    owner: alice.userName,
    size: '1Gi',
  });
});

test('tasks at both sites read and write the same files, as the same member', async () => {
  const write = 'head -c 5000000 /dev/urandom > /data/a && sha256sum < /data/a && stat -c "%U %u %g" /data/a';
  const written = await run('writes', near, write);
  const read = await run(
    'reads',
    far,
    `sha256sum < /data/a && stat -c "%U %u %g" /data/a && id -u &&
     mkdir /data/there && head -c 3000000 /dev/urandom > /data/there/b && sha256sum < /data/there/b && df /data | tail -1`,
  );
  expect(read.exit).toBe(0);
  const [sum, owner, uid, sumThere] = read.log.split('\n');
  expect(written.log.split('\n').slice(0, 2)).toEqual([sum, owner]);
  expect(owner).toMatch(new RegExp(`^${alice.userName} ${alice.uid} `));
  expect(uid).toBe(String(alice.uid));
  const back = await run('checks', near, 'sha256sum < /data/there/b && stat -c "%U" /data/there/b');
  expect(back.log.split('\n').slice(0, 2)).toEqual([sumThere, alice.userName]);
});

test('what a member closes to others is closed to them at the other site too', async () => {
  await run('closes', near, 'umask 077; echo secret > /data/mine; mkdir -m 0777 /data/open');
  const tried = await run(
    'tries',
    far,
    'cat /data/mine; chmod 666 /data/mine; rm -rf /data/there; echo theirs > /data/open/b; stat -c "%U" /data/open/b',
    bob,
  );
  expect(tried.log).toContain(bob.userName);
  expect(tried.log).not.toContain('secret');
  const intact = await run('looks', near, 'cat /data/mine; stat -c %a /data/mine; ls /data/there');
  expect(intact.log).toBe('secret\n600\nb\n');
});

test('a job finds nodes of both sites, and each of its tasks the volume', async () => {
  const volumes = [{ volume: 'data', mountPath: '/data' }];
  const script = 'echo $XTREEMOS_SITE > /data/part-$XTREEMOS_TASK_INDEX';
  const spec = {
    tasks: { count: 2, gangMinimum: 2 },
    placement: { spread: 'Spread' },
    volumes,
    template: aTask(script),
  };
  await sites.submit('spread', spec, alice);
  await sites.jobIs('spread', ({ status }) => status?.state === 'Succeeded');
  for (const site of [home, away]) expect(await sites.podsAt(site, 'spread')).toHaveLength(1);
  const merged = await run('merges', far, 'cat /data/part-0 /data/part-1 | sort');
  expect(merged.log).toBe(`${far}\n${near}\n`);
});

test('threats 16, 52: nobody names the volume of another site by themselves', async () => {
  const { spec } = await away.get<Stored<Volume>>('gvol', 'data', '-n', namespace);
  const member = await sites.away.logIn('bob');
  const forged = { ...about, kind: 'Volume', metadata: { name: 'forged' }, spec: { ...spec, owner: undefined } };
  const created = away.kubectl([...member.login, 'create', '-f', '-'], { input: JSON.stringify(forged) });
  await expect(created).rejects.toThrow(/spec\.remote: is written by XtreemOS only/);
});

/** Starts a task at the other site that writes and reads on and on, until there is `/data/stop`. */
async function startCounting(job: string): Promise<void> {
  const script = `i=0; while [ $i -lt 100000 ]; do i=$((i+1))
    echo $i > /data/${job}.new && mv /data/${job}.new /data/${job} || { echo "failed at $i"; exit 7; }
    now=$(cat /data/${job} 2>&1); [ "$now" = $i ] || { echo "wrote $i, read $now"; exit 8; }
    [ -e /data/stop-${job} ] && exit 0; echo $i; sleep 0.2; done`;
  await start(job, far, script);
}

async function counted(job: string): Promise<string> {
  const [pod] = await sites.podsAt(away, job);
  const words = ['logs', '-n', namespace, '--tail=1', pod?.metadata.name ?? ''];
  return (await away.tryKubectl(words)).stdout.trim();
}

async function goesOn(job: string, what: string): Promise<void> {
  const before = Number(await counted(job));
  await waitFor(what, async () => (Number(await counted(job)) > before + 2 ? true : undefined), {
    limitMs: 60_000,
  }).catch(async (error: unknown) => {
    throw new Error(`${String(error)}; the last line of its log is ${await counted(job)}`);
  });
}

async function endsWell(job: string): Promise<void> {
  await run(`stops-${job}`, near, `touch /data/stop-${job}`);
  const { status } = await sites.jobIs(job, ({ status: each }) => each?.state !== 'Running');
  expect(status?.state).toBe('Succeeded');
}

test('a task at the other site waits while the link is cut, and goes on when it is back, without an error', async () => {
  await startCounting('cut');
  await goesOn('cut', 'it counts');
  await sites.faults.cut(home.name, away.name);
  // The lease of work at another site lasts longer than this.
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  const stuck = Number(await counted('cut'));
  await new Promise((resolve) => setTimeout(resolve, 9_000));
  expect(Number(await counted('cut'))).toBeLessThanOrEqual(stuck + 1);
  await sites.faults.heal(home.name, away.name);
  await goesOn('cut', 'it goes on when the link is back');
  await endsWell('cut');
});

test('a task at the other site goes on when the gateways of either are killed', async () => {
  await startCounting('killed');
  await goesOn('killed', 'it counts');
  await killProcesses(sites.away, 'operator');
  await goesOn('killed', 'it goes on with the next gateway of its site');
  await killProcesses(sites.home, 'operator');
  await goesOn('killed', 'it goes on with the next gateway of the site that keeps the volume');
  await endsWell('killed');
});
