/** Snapshots of a claim by the standard kinds, with the real controllers of external-provisioner and external-snapshotter. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import YAML from 'yaml';
import type { FileSystem } from '#crds/file-system.ts';
import type { Volume } from '#crds/volume.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/index.ts';
import { applyFolder } from '#sites/addons.ts';
import { openSites, type TestSite, waitFor } from '#sites/harness.ts';
import { ensureTools } from '#sites/tools.ts';
import { baseEntries, programEntries } from '../../../hack/images/contents.ts';
import { programRecipe } from '../../../hack/images/recipes.ts';
import { killProcesses, processesOf } from '../components.ts';
import { shellImage } from '../job-objects.ts';
import { type Login, Product } from '../product.ts';

jest.setTimeout(300_000);

const about = { apiVersion: 'xtreemos.io/v1alpha1' };
const programs = ['csi-provisioner', 'csi-snapshotter', 'snapshot-controller'] as const;
const imageOf = (program: string): string => `xtreemos.io/${program}:test`;
const guide = path.resolve(import.meta.dirname, '../../../docs/snapshots.md');
/** The manifests of the guide, as they stand there. */
const [results, monday, restored] = [...readFileSync(guide, 'utf8').matchAll(/```yaml\n(.*?)```/gs)].map(
  ([, text = '']) => text,
) as [string, string, string];

interface Snapshot {
  readonly metadata: { readonly name: string };
  readonly status?: {
    readonly readyToUse?: boolean;
    readonly restoreSize?: string;
    readonly error?: { readonly message: string };
  };
}

let product: Product;
let site: TestSite;
let namespace: string;
let alice: Login;
let bob: Login;

beforeAll(async () => {
  const [found] = (await openSites()).sites;
  if (found === undefined) throw new Error('there is no site for the suites');
  const tools = await ensureTools([...programs, 'snapshot-crds', 'snapshot-controller-manifests']);
  await found.loadRecipes(
    programs.map((program) => {
      const target = `/usr/local/bin/${program}`;
      return programRecipe(
        imageOf(program),
        [...baseEntries(), ...programEntries({ [tools.path(program)]: target })],
        target,
      );
    }),
  );
  const client = found.client();
  await applyFolder(client, tools.path('snapshot-crds'), /^snapshot\..*\.yaml$/);
  client.close();
  await installController(found, tools.path('snapshot-controller-manifests'));
  product = await Product.install('suite-snapshots', [
    `csiController.provisionerImage=${imageOf('csi-provisioner')}`,
    `csiController.snapshotterImage=${imageOf('csi-snapshotter')}`,
  ]);
  ({ site, namespace } = product);
  await product.formOrganization();
  await product.join('alice');
  await product.join('bob');
  alice = await product.logIn('alice');
  bob = await product.logIn('bob');
  const fileSystem = { ...about, kind: 'FileSystem', metadata: { name: 'main', namespace: product.name } };
  await site.apply([{ ...fileSystem, spec: { osds: { count: 2 }, allowedVirtualOrganizations: [product.name] } }]);
  await isServing();
}, 900_000);

afterAll(async () => {
  for (const kind of ['pods', 'volumesnapshots', 'pvc', 'gvol']) {
    await site.tryKubectl(['delete', kind, '--all', '-n', namespace, '--timeout=60s'], { timeoutMs: 70_000 });
  }
  await site.tryKubectl(['delete', 'xfs', '--all', '-n', product.name, '--timeout=60s'], { timeoutMs: 70_000 });
  await product.uninstall();
  await site.tryKubectl(['delete', 'deployment', 'snapshot-controller', '-n', 'kube-system']);
}, 400_000);

/** As external-snapshotter's own manifests have it, with the program that was built here. */
async function installController(where: TestSite, folder: string): Promise<void> {
  await where.apply(readFileSync(path.join(folder, 'rbac-snapshot-controller.yaml'), 'utf8'));
  const setup = readFileSync(path.join(folder, 'setup-snapshot-controller.yaml'), 'utf8')
    .replace(/image: \S+/, `image: ${imageOf('snapshot-controller')}`)
    .replace('replicas: 2', 'replicas: 1');
  await where.apply(setup);
}

async function isServing(): Promise<void> {
  await waitFor(
    'the file system serves',
    async () => {
      const { status } = await site.get<Stored<FileSystem>>('xfs', 'main', '-n', product.name);
      const isReady = status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true;
      return isReady && status.osdsReady === 2 ? true : undefined;
    },
    { limitMs: 240_000 },
  );
}

const as = async ({ login }: Login, manifest: string): Promise<string> =>
  site.kubectl([...login, 'create', '-f', '-'], { input: manifest });

/** A pod that runs a script with claims at `/NAME`. @param source - what its volumes say besides. */
function podOf(name: string, claims: readonly string[], script: string, source: object): string {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      restartPolicy: 'Never',
      containers: [
        {
          name: 'main',
          image: shellImage,
          command: ['sh', '-c', script],
          volumeMounts: claims.map((claim) => ({ name: claim, mountPath: `/${claim}` })),
        },
      ],
      volumes: claims.map((claim) => ({ name: claim, persistentVolumeClaim: { claimName: claim, ...source } })),
    },
  };
  return JSON.stringify(pod);
}

/** Runs such a pod as a member. @returns what it printed. */
async function run(
  who: Login,
  name: string,
  claims: readonly string[],
  script: string,
  source: object = {},
): Promise<string> {
  await as(who, podOf(name, claims, script, source));
  const ended = await site.until<Stored<Pod>>(
    ['pod', name, '-n', namespace],
    ({ status }) => status?.phase === 'Succeeded' || status?.phase === 'Failed',
    150_000,
  );
  const log = await site.kubectl(['logs', '-n', namespace, name]);
  await site.kubectl(['delete', 'pod', name, '-n', namespace, '--grace-period=1', '--timeout=60s']);
  if (ended.status?.phase !== 'Succeeded') throw new Error(`${name} failed: ${log}`);
  return log.trim();
}

const snapshotReady = async (name: string): Promise<Snapshot> =>
  site.until<Snapshot>(['volumesnapshot', name, '-n', namespace], ({ status }) => status?.readyToUse === true, 120_000);

/** What the driver says of a VolumeSnapshot that it refuses. */
async function refusalOf(name: string): Promise<string> {
  const { status } = await site.until<Snapshot>(
    ['volumesnapshot', name, '-n', namespace],
    ({ status: seen }) => seen?.error !== undefined,
    60_000,
  );
  return status?.error?.message ?? '';
}

async function bound(name: string): Promise<void> {
  await site.kubectl(['wait', 'pvc', name, '-n', namespace, '--for=jsonpath={.status.phase}=Bound', '--timeout=150s'], {
    timeoutMs: 160_000,
  });
}

/** Bytes that all OSDs have on disk for files. */
async function bytesAtOsds(): Promise<number> {
  const sizeOf = (folder: string): number =>
    readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile() && /^[^/]*:\d+\./.test(entry.name))
      .reduce((sum, entry) => sum + statSync(path.join(entry.parentPath, entry.name)).size, 0);
  const pids = await processesOf(product, 'osd');
  const folders = new Map<number, string>();
  for (const pid of pids) {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const folder = words.find((word) => word.startsWith('--object-dir='))?.slice('--object-dir='.length);
    if (folder !== undefined) folders.set(pid, path.join(`/proc/${pid}/root`, folder));
  }
  return [...folders.values()].reduce((sum, folder) => sum + sizeOf(folder), 0);
}

const mib = 2 ** 20;
const fileMib = 4;
/** Files with their checksums, one of them striped over nothing but large, one deep down and private. */
const write = `umask 077; mkdir -p /results/deep; chmod 755 /results/deep; cd /results
# The metadata server hears of new OSDs within ten seconds.
for i in $(seq 20); do touch note 2> /dev/null && break; sleep 1; done
head -c ${fileMib * mib} /dev/urandom > large; head -c 1000 /dev/urandom > deep/private; echo first > note; ln large link; ln -s note soft
dd if=/dev/urandom of=sparse bs=1k count=1 seek=3000 2>/dev/null
sync; sha256sum large deep/private note sparse`;
const change =
  'cd /results; head -c 5000000 /dev/urandom > large; rm deep/private; echo second >> note; echo x > new; sync';
const check = 'sha256sum large deep/private note sparse';

let sums: string;
let spaceBefore: number;

describe('a snapshot of a claim', () => {
  test('is taken while a member goes on writing, and says how large it is', async () => {
    await as(alice, results);
    await bound('results');
    sums = await run(alice, 'write', ['results'], write);
    spaceBefore = await bytesAtOsds();
    await as(alice, monday);
    const { status } = await snapshotReady('monday');
    expect(status?.restoreSize).toMatch(/^\d+/);
    await run(alice, 'change', ['results'], change);
    expect(await run(alice, 'changed', ['results'], `cd /results; cat note; ls`)).toBe(
      'first\nsecond\ndeep\nlarge\nlink\nnew\nnote\nsoft\nsparse',
    );
  });

  test('threats 16 and 20: is neither taken nor restored by another member, and nobody names what is there already', async () => {
    await as(bob, monday.replace('monday', 'bobs'));
    expect(await refusalOf('bobs')).toMatch(new RegExp(`belongs to ${alice.userName}, not to ${bob.userName}`));
    await as(bob, restored.replace('name: restored', 'name: stolen'));
    const why = await waitFor('the claim is refused', async () => {
      const events = await site.kubectl(['get', 'events', '-n', namespace, '-o', 'jsonpath={.items[*].message}']);
      return /belongs to \S+, not to \S+: only its owner and administrators \S+ .*copy its snapshots/.exec(events)?.[0];
    }, { limitMs: 90_000 }); // prettier-ignore
    expect(why).toContain(bob.userName);
    // A claim that is gone is nobody's: it is not taken for one of the owner of the site.
    await site.kubectl([...bob.login, 'delete', 'pvc', 'stolen', '--timeout=60s']);
    const bySource = { source: { volumeSnapshotContentName: 'any' }, volumeSnapshotClassName: 'xtreemos' };
    const existing = { ...(YAML.parse(monday) as object), spec: bySource };
    const named = await site.tryKubectl([...alice.login, 'create', '-f', '-'], { input: JSON.stringify(existing) });
    expect(named.stderr).toMatch(/spec\.source\.volumeSnapshotContentName: of VolumeSnapshot monday names data/);
    const clone = restored.replace(/apiGroup: .*name: monday/, 'kind: PersistentVolumeClaim, name: results');
    const cloned = await site.tryKubectl([...alice.login, 'create', '-f', '-'], { input: clone });
    expect(cloned.stderr).toMatch(/spec\.dataSource: of PersistentVolumeClaim restored names data/);
    const elsewhere = restored.replace('storageClassName: xtreemos', 'storageClassName: local');
    const other = await site.tryKubectl([...alice.login, 'create', '-f', '-'], { input: elsewhere });
    expect(other.stderr).toMatch(/or name a VolumeSnapshot and the StorageClass of Volumes/);
    expect(await site.kubectl(['get', 'gvol', '-n', namespace, '-o', 'jsonpath={.items[*].spec.source}'])).toBe('');
    await site.kubectl([...bob.login, 'delete', 'volumesnapshot', 'bobs', '--wait=false']);
  });

  test('outlasts kills of every server, of the operator and of the CSI controller while it is restored, byte by byte and link by link', async () => {
    for (const component of ['osd', 'mrc', 'dir']) expect(await killProcesses(product, component)).toBeGreaterThan(0);
    await as(alice, restored);
    for (const component of ['csi-controller', 'operator']) {
      expect(await killProcesses(product, component)).toBeGreaterThan(0);
    }
    await isServing();
    await bound('restored');
    const script = `cd /restored; ${check}; cat soft; ls; stat -c '%a %h %U' large deep/private deep; stat -c %s sparse`;
    expect(await run(alice, 'check', ['restored'], script)).toBe(
      [
        sums,
        'first',
        'deep\nlarge\nlink\nnote\nsoft\nsparse',
        ...[`600 2 ${alice.userName}`, `600 1 ${alice.userName}`, `755 2 ${alice.userName}`],
        String(3001 * 1024),
      ].join('\n'),
    );
    await run(alice, 'own', ['restored', 'results'], 'echo third > /restored/note; grep -q second /results/note');
  });

  test('is mounted read-only where the claim is ReadOnlyMany', async () => {
    const readOnly = restored.replace('name: restored', 'name: looked-at').replace('ReadWriteMany', 'ReadOnlyMany');
    await as(alice, readOnly);
    await bound('looked-at');
    const script = `cd /looked-at; ${check}; touch x 2>&1 || true`;
    expect(await run(alice, 'look', ['looked-at'], script, { readOnly: true })).toBe(
      `${sums}\ntouch: x: Read-only file system`,
    );
    // Its container could write, whatever the mount on the node is.
    await as(alice, podOf('scribble', ['looked-at'], script, {}));
    await waitFor(
      'the pod is refused',
      async () =>
        (await site.kubectl(['get', 'events', '-n', namespace, '-o', 'jsonpath={.items[*].message}'])).includes(
          'may only be read here: write readOnly: true at persistentVolumeClaim',
        ),
      { limitMs: 60_000 },
    );
    await site.kubectl(['delete', 'pod', 'scribble', '-n', namespace, '--grace-period=1', '--timeout=60s']);
  });

  test('keeps its Volume when the claim is deleted, so that it can be restored, and gives the space back when it goes', async () => {
    const uid = await site.kubectl(['get', 'pvc', 'results', '-n', namespace, '-o', 'jsonpath={.metadata.uid}']);
    await site.kubectl([...alice.login, 'delete', 'pvc', 'results', '--timeout=60s']);
    await as(alice, restored.replace('name: restored', 'name: again'));
    await bound('again');
    expect(await run(alice, 'once-more', ['again'], `cd /again; ${check}`)).toBe(sums);
    for (const claim of ['again', 'restored', 'looked-at']) {
      await site.kubectl([...alice.login, 'delete', 'pvc', claim, '--timeout=60s']);
    }
    const { metadata } = await site.get<Stored<Volume>>('gvol', `pvc-${uid}`, '-n', namespace);
    expect(metadata.deletionTimestamp).toBeUndefined();
    expect(await bytesAtOsds()).toBeGreaterThan(fileMib * mib);
    await site.kubectl([...alice.login, 'delete', 'volumesnapshot', 'monday', '--timeout=90s'], { timeoutMs: 100_000 });
    const left = async (): Promise<Stored<Volume>[]> =>
      (await site.get<{ items: Stored<Volume>[] }>('gvol', '-n', namespace)).items;
    await waitFor('no Volume is left', async () => (await left()).length === 0, { limitMs: 150_000 }).catch(
      async (error: unknown) => {
        throw new Error(`${String(error)}: ${JSON.stringify(await left())}`, { cause: error });
      },
    );
    await waitFor('the space is free again', async () => (await bytesAtOsds()) < spaceBefore / 4, { limitMs: 90_000 });
  });
});
