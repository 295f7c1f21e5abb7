/**
 * `make csi-sanity`: the tests of the CSI specification (csi-test, from its Go module) against our driver, over its sockets: real
 * API server, real FUSE, a real local installation of XtreemFS. Two parts are played here: of the kubelet, which tells the driver
 * the pod (`podInfoOnMount`), and of the operator, which makes at the metadata server what a `Volume` declares. Needs root and
 * /dev/fuse. The last line is `figure: {run, passed, skipped, failed}`; above it every skipped test with its reason.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { systemClock } from '#common/clock.ts';
import { TerminalError } from '#common/errors.ts';
import { createLogger, silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { systemRandom } from '#common/random.ts';
import { fileSystems, type FileSystem } from '#crds/file-system.ts';
import { parseQuantity } from '#crds/quantity.ts';
import { installCrds } from '#crds/testing/install.ts';
import { snapshotNameOf, type Volume, volumeNameOf, volumes } from '#crds/volume.ts';
import { volumeSnapshots } from '#nodeagent/csi/snapshots.ts';
import { controllerService } from '#nodeagent/csi/controller.ts';
import { identityService } from '#nodeagent/csi/identity.ts';
import { createCsiMetrics } from '#nodeagent/csi/metrics.ts';
import { nodeService } from '#nodeagent/csi/node.ts';
import { CsiServer } from '#nodeagent/csi/server.ts';
import { VolumeStats } from '#nodeagent/csi/stats.ts';
import { Cluster } from '#nodeagent/kubernetes/cluster.ts';
import { VolumeCopies } from '#operator/controllers/volume/copies.ts';
import { keepSnapshots } from '#operator/controllers/volume/snapshots.ts';
import { XtreemfsInstallation } from '#operator/storage/xtreemfs-installation.ts';
import { controllerMethods, identityMethods, nodeMethods } from '#proto/csi/schema.ts';
import { namespaces, pods, serviceAccounts } from '#runtime/builtin.ts';
import { kubeConfigCredentials } from '#runtime/credentials.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import { createRuntimeMetrics } from '#runtime/metrics.ts';
import { HttpTransport } from '#runtime/transport.ts';
import type { Client } from '#runtime/contracts.ts';
import type { KubeObject, Stored } from '#runtime/types.ts';
import { startControlPlane } from '#sites/control-plane.ts';
import { applyFolder } from '#sites/addons.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';
import { ensureTools } from '#sites/tools.ts';
import { Services } from '#xtreemfs/client/services.ts';
import { makeVolume } from '#xtreemfs/tools/volume-admin.ts';
import { LocalNode } from '../e2e/suites/volumes/local-node.ts';
import { canMount } from '../e2e/suites/xtreemfs/mounts.ts';

const namespace = 'sanity';
const nodeName = 'sanity-node';
const limitMs = 600_000;

interface Spec {
  readonly LeafNodeText: string;
  readonly ContainerHierarchyTexts: readonly string[] | null;
  readonly LeafNodeType: string;
  readonly State: string;
  readonly Failure?: { readonly Message: string };
}

/** The operator's part: makes each declared Volume at the metadata server, keeps its snapshots, fills it from its source, and says so. */
async function actAsOperator(
  client: Client,
  node: LocalNode,
  fileSystem: Stored<FileSystem>,
  signal: AbortSignal,
): Promise<void> {
  const services = new Services({ clock: systemClock, logger: silentLogger, dirs: node.source.dirs, triesMax: 5 });
  const file = path.join(node.installation.folder, 'installation.json');
  const { mrc } = JSON.parse(readFileSync(file, 'utf8')) as { mrc: { port: number } };
  const installation = new XtreemfsInstallation(services, `127.0.0.1:${mrc.port}`);
  const copies = new VolumeCopies({ clock: systemClock, log: silentLogger });
  const made = new Set<string>();
  const serve = async (volume: Stored<Volume>, all: readonly Stored<Volume>[]): Promise<void> => {
    const { name, uid } = volume.metadata;
    const sizeBytes = Number(parseQuantity(volume.spec.size).nano / 1_000_000_000n);
    if (!made.has(uid)) {
      const terms = { name: volumeNameOf(uid), mode: 0o777, user: 'root', group: 'root', stripeKib: 128, width: 1 };
      await makeVolume(services, `127.0.0.1:${mrc.port}`, terms);
      made.add(uid);
    }
    const key = { namespace, name };
    const place = { name: fileSystem.metadata.name, namespace };
    await client.of(volumes).patch(key, { type: 'merge', body: { spec: { fileSystem: place } } });
    const report = { quotaBytes: sizeBytes, usedBytes: 0, files: 0 };
    const snapshots = await keepSnapshots(volume, installation, report, signal);
    const source = all.find((each) => each.metadata.name === volume.spec.source?.volume);
    const snapshot = snapshotNameOf(volume.spec.source?.snapshot ?? '');
    const order = { uid, from: { name: volumeNameOf(source?.metadata.uid ?? ''), snapshot }, to: volumeNameOf(uid) };
    const isCopied = source === undefined || copies.ask(order, installation, signal).isDone;
    const ready = {
      type: 'Ready',
      status: isCopied ? 'True' : 'False',
      reason: 'Available',
      message: 'it is there',
      lastTransitionTime: new Date().toISOString(),
    };
    const status = {
      ...{ sizeBytes, snapshots, copied: isCopied },
      fileSystemUID: fileSystem.metadata.uid,
      volumeName: volumeNameOf(uid),
      conditions: [ready],
    };
    await client.of(volumes).status.patch(key, { type: 'merge', body: { status } });
  };
  while (!signal.aborted) {
    const { items } = await client.of(volumes).list({ namespace });
    // One that is deleted meanwhile needs nothing.
    for (const volume of items) await ignoreNotFound(serve(volume, items));
    await systemClock.sleep(100);
  }
  services.close();
}

async function sanity(): Promise<number> {
  if (!canMount) throw new TerminalError('csi-sanity mounts: it needs root and /dev/fuse');
  const tools = await ensureTools(['csi-sanity', 'snapshot-crds']);
  const program = tools.path('csi-sanity');
  const plane = await startControlPlane({ dir: mkdtempSync(path.join(tmpdir(), 'xtreemos-sanity-')), name: 'sanity' });
  const node = await LocalNode.start();
  const stop = new AbortController();
  const logger = createLogger({ level: 'error', name: 'csi-sanity' });
  const metrics = createRuntimeMetrics(createRegistry());
  const transport = new HttpTransport({
    credentials: kubeConfigCredentials({ file: plane.kubeconfigPath }),
    logger,
    metrics,
  });
  try {
    const admin = new KubeClient(plane.credentials);
    await installCrds(admin);
    await applyFolder(admin, tools.path('snapshot-crds'), /^snapshot\..*\.yaml$/);
    const cluster = new Cluster(nodeName, {
      transport,
      clock: systemClock,
      relay: '',
      random: systemRandom(),
      logger,
      metrics,
    });
    const { fileSystem, context } = await prepare(cluster.client, node);
    await cluster.start(stop.signal);
    const operator = actAsOperator(cluster.client, node, fileSystem, stop.signal);
    const server = new CsiServer({
      logger: silentLogger,
      clock: systemClock,
      metrics: createCsiMetrics(createRegistry()),
    });
    const nodeHandlers = nodeService({
      ...{ node: nodeName, view: cluster, holder: node.client, stats: new VolumeStats(systemClock) },
      events: { publish: () => undefined },
    });
    server.add(
      identityMethods,
      identityService('0.1.0', () => true),
    );
    server.add(controllerMethods, controllerService({ client: cluster.client, clock: systemClock, waitMs: 20_000 }));
    server.add(nodeMethods, {
      ...nodeHandlers,
      NodePublishVolume: async (request) =>
        nodeHandlers.NodePublishVolume({ ...request, volumeContext: { ...request.volumeContext, ...context } }),
    });
    await server.listen(path.join(node.scratch, 'csi/csi.sock'));
    const status = await runSuite(program, node);
    await server.stop();
    stop.abort();
    await operator;
    admin.close();
    return status;
  } finally {
    stop.abort();
    await transport.close();
    await node.stop();
    await plane.stop();
  }
}

/** A namespace with a FileSystem that serves and a pod. @returns what the kubelet would say of the pod. */
async function prepare(
  client: Client,
  node: LocalNode,
): Promise<{ fileSystem: Stored<FileSystem>; context: Record<string, string> }> {
  await client.of(namespaces).create({ metadata: { name: namespace } });
  const [dir] = node.source.dirs;
  const key = { namespace, name: 'main' };
  await client.of(fileSystems).create({ metadata: key, spec: { tls: 'Disabled' } as FileSystem['spec'] });
  const status = { dir: { address: `${dir?.host ?? ''}:${dir?.port ?? 0}`, ready: true } };
  const fileSystem = await client.of(fileSystems).status.patch(key, { type: 'merge', body: { status } });
  await client.of(serviceAccounts).create({ metadata: { namespace, name: 'default' } });
  const pod = await client.of(pods).create({
    metadata: { namespace, name: 'pod' },
    spec: {
      nodeName,
      serviceAccountName: 'default',
      automountServiceAccountToken: false,
      containers: [{ name: 'main', image: 'none' }],
    },
  });
  await waitFor('VolumeSnapshots are served', async () => {
    await client.of(volumeSnapshots).create({
      metadata: { namespace, name: 'asked' },
      spec: { source: { persistentVolumeClaimName: 'claim' } },
    } as KubeObject);
    return true;
  });
  const context = {
    'csi.storage.k8s.io/pod.name': 'pod',
    'csi.storage.k8s.io/pod.namespace': namespace,
    'csi.storage.k8s.io/pod.uid': pod.metadata.uid,
  };
  return { fileSystem, context };
}

async function runSuite(program: string, node: LocalNode): Promise<number> {
  const parameters = path.join(node.scratch, 'parameters.yaml');
  writeFileSync(parameters, `csi.storage.k8s.io/pvc/namespace: ${namespace}\n`);
  const snapshotParameters = path.join(node.scratch, 'snapshot-parameters.yaml');
  const asked = { name: 'asked', namespace };
  const lines = Object.entries(asked).map(([key, value]) => `csi.storage.k8s.io/volumesnapshot/${key}: ${value}`);
  writeFileSync(snapshotParameters, `${lines.join('\n')}\n`);
  const report = path.join(node.scratch, 'report.json');
  mkdirSync(path.join(node.kubeletDir, 'pods/sanity'), { recursive: true });
  const args = [
    `-csi.endpoint=unix://${node.scratch}/csi/csi.sock`,
    `-csi.mountdir=${node.kubeletDir}/pods/sanity/volume`,
    `-csi.stagingdir=${node.kubeletDir}/plugins/sanity`,
    `-csi.testvolumeparameters=${parameters}`,
    `-csi.testsnapshotparameters=${snapshotParameters}`,
    `-csi.testvolumeexpandsize=${2 * 2 ** 30}`,
    `-csi.testvolumesize=${2 ** 30}`,
    '-ginkgo.no-color',
    `-ginkgo.json-report=${report}`,
  ];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: node.scratch, timeout: limitMs });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await new Promise((resolve) => child.once('close', resolve));
  const specs = (JSON.parse(readFileSync(report, 'utf8')) as { SpecReports: Spec[] }[])
    .flatMap(({ SpecReports }) => SpecReports)
    .filter(({ LeafNodeType }) => LeafNodeType === 'It');
  rmSync(report);
  const of = (state: string): Spec[] => specs.filter(({ State }) => State === state);
  const bad = specs.filter(({ State }) => !['passed', 'skipped', 'pending'].includes(State));
  const skipped = [...of('skipped'), ...of('pending')];
  for (const spec of skipped) console.log(`skipped: ${titleOf(spec)}: ${reasonOf(spec)}`);
  if (bad.length > 0) console.log(output);
  for (const spec of bad) console.log(`failed: ${titleOf(spec)}: ${reasonOf(spec)}`);
  const figure = {
    run: specs.length - skipped.length,
    passed: of('passed').length,
    skipped: skipped.length,
    failed: bad.length,
  };
  console.log(`figure: ${JSON.stringify(figure)}`);
  return bad.length === 0 && figure.passed > 0 ? 0 : 1;
}

const titleOf = (spec: Spec): string => [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' ');
const reasonOf = (spec: Spec): string => (spec.Failure?.Message ?? 'left out by csi-test itself').split('\n')[0] ?? '';

process.exitCode = await sanity();
process.exit();
