/** What each program of this room is made of; `main.ts` reads the command line and starts one. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { untilAborted } from '#common/abort.ts';
import { systemClock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { createRegistry, Gauge, type Registry } from '#common/metrics.ts';
import { systemRandom } from '#common/random.ts';
import { csiDriverName } from '#crds/volume.ts';
import { controllerMethods, identityMethods, nodeMethods, registrationMethods } from '#proto/csi/schema.ts';
import { createClient } from '#runtime/client.ts';
import { defaultCredentials, kubeConfigCredentials } from '#runtime/credentials.ts';
import { BackgroundRecorder } from '#runtime/events.ts';
import { healthHandler, HttpServer, metricsHandler } from '#runtime/http-server.ts';
import { createRuntimeMetrics, type RuntimeMetrics } from '#runtime/metrics.ts';
import { HttpTransport } from '#runtime/transport.ts';
import manifest from '../package.json' with { type: 'json' };
import { idFiles, writeIds } from './accounts/ids-writer.ts';
import { controllerService } from './csi/controller.ts';
import { identityService, registrationService } from './csi/identity.ts';
import { createCsiMetrics } from './csi/metrics.ts';
import { nodeService } from './csi/node.ts';
import { CsiServer } from './csi/server.ts';
import { VolumeStats } from './csi/stats.ts';
import { MountHolder } from './holder/holder.ts';
import { HolderClient, HolderServer } from './holder/socket.ts';
import { Cluster } from './kubernetes/cluster.ts';
import type { AgentOptions, ControllerOptions, HolderOptions } from './options.ts';

/** Where the parts of a node find each other. */
export function socketPaths({ kubeletDir, stateDir }: { readonly kubeletDir: string; readonly stateDir: string }): {
  readonly csi: string;
  readonly registration: string;
  readonly holder: string;
} {
  return {
    csi: path.join(kubeletDir, 'plugins', csiDriverName, 'csi.sock'),
    registration: path.join(kubeletDir, 'plugins_registry', `${csiDriverName}-reg.sock`),
    holder: path.join(stateDir, 'holder.sock'),
  };
}

const idsFolder = (stateDir: string): string => path.join(stateDir, 'issued');

/** The node agent: CSI for the kubelet. It holds no mount. Ends when the signal aborts. */
export async function runAgent(options: AgentOptions, logger: Logger, signal: AbortSignal): Promise<void> {
  const registry = createRegistry({ process: true });
  const metrics = createRuntimeMetrics(registry);
  const transport = connectTo(options.kubeconfig, 'xtreemos-node-agent', logger, metrics);
  const progress = { isReady: false };
  const health = await startHealth(options.healthPort, registry, () => progress.isReady, logger);
  const cluster = new Cluster(options.node, {
    ...{ transport, clock: systemClock, random: systemRandom(), logger, metrics, relay: options.relay },
  });
  await cluster.start(signal);
  cluster.followIds((ids) => writeIds(idsFolder(options.stateDir), ids));
  const sockets = socketPaths(options);
  const events = new BackgroundRecorder({
    ...{ client: cluster.client, clock: systemClock, logger, metrics },
    controller: 'xtreemos.io/node-agent',
    instance: options.node,
  });
  const parts = { logger, clock: systemClock, metrics: createCsiMetrics(registry) };
  const server = new CsiServer(parts);
  server.add(
    identityMethods,
    identityService(manifest.version, () => progress.isReady),
  );
  server.add(
    nodeMethods,
    nodeService({
      ...{ node: options.node, view: cluster, events },
      holder: new HolderClient(sockets.holder),
      stats: new VolumeStats(systemClock),
    }),
  );
  await server.listen(sockets.csi);
  // Last: the kubelet asks as soon as it sees this socket.
  const registration = new CsiServer(parts);
  registration.add(registrationMethods, registrationService(sockets.csi, logger));
  await registration.listen(sockets.registration);
  progress.isReady = true;
  logger.info('Serving the kubelet', { socket: sockets.csi });
  await untilAborted(signal);
  await registration.stop();
  await server.stop();
  await events.stop();
  await health.stop();
  await transport.close();
}

/**
 * The mount holder: keeps the mounts of the node. When it is told to end it ends at once; its mounts are then dead until the next
 * one has brought them back.
 */
export async function runHolder(options: HolderOptions, logger: Logger, signal: AbortSignal): Promise<void> {
  const registry = createRegistry({ process: true });
  const file = (name: string): string => path.join(options.tlsDir, name);
  const holder = new MountHolder({
    clock: systemClock,
    logger,
    roots: [options.kubeletDir],
    workerCommand: workerCommand(),
    tls: { certificatePath: file('tls.crt'), privateKeyPath: file('tls.key'), trustedPath: file('ca.crt') },
    issuedIds: idFiles(idsFolder(options.stateDir)),
    reachMs: options.reachMs,
    logLevel: options.logLevel,
  });
  addHolderMetrics(registry, holder);
  const progress = { isReady: false };
  const health = await startHealth(options.healthPort, registry, () => progress.isReady, logger);
  await holder.recover();
  const server = new HolderServer(holder, logger);
  await server.listen(socketPaths(options).holder);
  progress.isReady = true;
  logger.info('Holding mounts', { mounts: holder.list().length });
  await untilAborted(signal);
  server.close();
  await health.stop();
}

/** The Controller service, beside external-provisioner. Ends when the signal aborts. */
export async function runController(options: ControllerOptions, logger: Logger, signal: AbortSignal): Promise<void> {
  const registry = createRegistry({ process: true });
  const transport = connectTo(options.kubeconfig, 'xtreemos-csi-controller', logger, createRuntimeMetrics(registry));
  const client = createClient(transport, { fieldManager: 'xtreemos-csi-controller' });
  const health = await startHealth(options.healthPort, registry, () => true, logger);
  const server = new CsiServer({ logger, clock: systemClock, metrics: createCsiMetrics(registry) });
  server.add(
    identityMethods,
    identityService(manifest.version, () => true),
  );
  server.add(controllerMethods, controllerService({ client, clock: systemClock, waitMs: options.waitMs }));
  await server.listen(options.socket);
  logger.info('Serving external-provisioner', { socket: options.socket });
  await untilAborted(signal);
  await server.stop();
  await health.stop();
  await transport.close();
}

function connectTo(kubeconfig: string, userAgent: string, logger: Logger, metrics: RuntimeMetrics): HttpTransport {
  const credentials = kubeconfig === '' ? defaultCredentials() : kubeConfigCredentials({ file: kubeconfig });
  return new HttpTransport({ credentials, logger, metrics, userAgent });
}

/** Program that serves one mount: of the room of the file system, so that it loads nothing of ours. */
export function workerCommand(): [string, ...string[]] {
  const here = fileURLToPath(import.meta.url);
  const isBundle = here.endsWith('.mjs');
  const program = path.resolve(path.dirname(here), isBundle ? 'xtreemfs.mjs' : '../xtreemfs/main.ts');
  // A mount keeps little; small spaces and one malloc arena keep a node with many of them light.
  return [process.execPath, '--max-semi-space-size=2', program, 'mount-worker'];
}

/** What the holder of a node tells of its mounts. */
export function addHolderMetrics(registry: Registry, holder: Pick<MountHolder, 'list'>): void {
  new Gauge({
    name: 'xtreemos_mount_holder_mounts',
    help: 'Mounts of volumes on this node, by whether they serve',
    labelNames: ['state'],
    registers: [registry],
    collect() {
      const serving = holder.list().filter(({ isServing }) => isServing).length;
      this.set({ state: 'serving' }, serving);
      this.set({ state: 'starting' }, holder.list().length - serving);
    },
  });
  new Gauge({
    name: 'xtreemos_mount_holder_takeovers',
    help: 'How often the process of a mount that is held now was replaced, all mounts together',
    registers: [registry],
    collect() {
      this.set(holder.list().reduce((sum, { takeovers }) => sum + takeovers, 0));
    },
  });
}

/** `/livez` while the process turns, `/readyz` once it serves, `/metrics`. */
async function startHealth(
  port: number,
  registry: Registry,
  isReady: () => boolean,
  logger: Logger,
): Promise<HttpServer> {
  const ready = healthHandler(
    new Map([
      [
        'serving',
        () => {
          if (!isReady()) throw new Error('Still starting');
        },
      ],
    ]),
  );
  const routes = new Map([
    ['/livez', healthHandler(new Map())],
    ['/readyz', ready],
    ['/metrics', metricsHandler(registry)],
  ]);
  const server = new HttpServer({ port }, routes, logger);
  await server.start();
  return server;
}
