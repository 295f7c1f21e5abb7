/** The selector: a node's member of the resource-selection overlay, as a process of its own (docs/selector.md). */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { untilAborted } from '#common/abort.ts';
import { systemClock } from '#common/clock.ts';
import { describeError, InvalidInputError, TerminalError } from '#common/errors.ts';
import { createLogger, type Logger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { helpText, parseOptions, type OptionValues } from '#common/options.ts';
import { systemRandom } from '#common/random.ts';
import { defaultCredentials, kubeConfigCredentials } from '#runtime/credentials.ts';
import { healthHandler, HttpServer } from '#runtime/http-server.ts';
import { createRuntimeMetrics } from '#runtime/metrics.ts';
import { terminationSignal } from '#runtime/signals.ts';
import { HttpTransport } from '#runtime/transport.ts';
import { machineSource } from './ads/live.ts';
import { Cluster, readMachineFacts } from './kubernetes/cluster.ts';
import { HomeFencer } from './kubernetes/home-fencer.ts';
import { ClusterMembers } from './kubernetes/members.ts';
import { MemoryClaimStore } from './ledger/store.ts';
import { MonitorServer } from './monitor/pages.ts';
import type { StatusPage } from './monitor/status.ts';
import { readAttributes, readResources, selectorOptions } from './options.ts';
import { OwnWord, SiteSigner, TrustSet } from './overlay/trust.ts';
import { PeerFinder, systemResolve } from './peers.ts';
import { SelectorProcess } from './process.ts';
import { followTlsFiles } from '#proto/selector/tls.ts';

type Options = OptionValues<typeof selectorOptions>;

/** What the process has running, whatever the nodes come from. */
interface Running {
  readonly port: number;
  /** The page of one of its selectors. */
  status(): StatusPage;
  setPeers(peers: readonly string[]): void;
}

/** One selector whose node is described on the command line. */
async function runPlain(
  options: Options,
  host: SelectorProcess,
  trust: OwnWord,
  peers: readonly string[],
): Promise<Running> {
  const { site, node, listen, advertise, offers, gossipPeriodMs } = options;
  const store = new MemoryClaimStore();
  const { agent, port } = await host.add(
    {
      components: {
        ...{ random: systemRandom(), signer: trust, verifier: trust, store, liveSource: machineSource },
        // A node that is described on the command line has no pods.
        endPod: async () => Promise.resolve(),
      },
      settings: { site, node, isOffering: offers, overlay: { periodMs: gossipPeriodMs } },
      view: {
        attributes: readAttributes(options.attributes),
        allocatable: readResources(options.allocatable),
        ...{ pods: [], virtualOrganizations: options.virtualOrganizations, refusal: undefined },
      },
      ...{ listen, advertise },
    },
    peers,
  );
  return { port, status: () => agent.status(), setPeers: (addresses) => agent.setPeers(addresses) };
}

/** The selector of the node this runs on, or of every node with the given labels; nothing is answered before all is read. */
async function runInCluster(
  options: Options,
  host: SelectorProcess,
  trust: OwnWord,
  peers: readonly string[],
  logger: Logger,
  signal: AbortSignal,
): Promise<Running> {
  const { kubeconfig, site, node, hostedNodes, listen, advertise, gossipPeriodMs, namespace } = options;
  const isOnNode = hostedNodes === '';
  const metrics = createRuntimeMetrics(createRegistry());
  const credentials = kubeconfig === '' ? defaultCredentials() : kubeConfigCredentials({ file: kubeconfig });
  // The ledgers of many nodes write as many claims as jobs come; one node's are few.
  const throttle = isOnNode ? {} : { qps: Infinity };
  const transport = new HttpTransport({ credentials, logger, metrics, throttle, userAgent: 'xtreemos-selector' });
  const random = systemRandom();
  // Hosted nodes have no machine, or another one than this.
  const machine = isOnNode ? readMachineFacts() : { cpuModel: '', diskBytes: 0 };
  const cluster = new Cluster(site, isOnNode ? { node } : { nodeLabels: hostedNodes }, {
    ...{ transport, clock: systemClock, random, logger, metrics, machine },
  });
  logger.info('Reading the cluster', { node, hostedNodes });
  await cluster.start(signal);
  const members = new ClusterMembers(
    { site, listen, advertise, isOnNode, overlay: { periodMs: gossipPeriodMs } },
    { process: host, cluster, signer: trust, verifier: trust, random, logger },
    peers,
  );
  const port = await members.start(isOnNode ? [node] : cluster.nodeNames);
  const fencer = new HomeFencer({
    ...{ pods: () => cluster.boundPods(), client: cluster.client, clock: systemClock, logger, namespace },
  });
  fencer.run(signal).catch((error: unknown) => logger.error('Looking at leases ended', { err: error }));
  return {
    port,
    status: () => {
      if (members.first === undefined) throw new TerminalError('No node is hosted here now');
      return members.first.status();
    },
    setPeers: (addresses) => members.setPeers(addresses),
  };
}

async function run(options: Options, logger: Logger, signal: AbortSignal): Promise<void> {
  const { site } = options;
  const keys = readTrust(options.siteTrust, site);
  const signer = new SiteSigner(site, createPrivateKey(readFileSync(options.siteKey)));
  const trust = new OwnWord(signer, new TrustSet(keys));
  const progress = { isReady: false };
  const health = await startHealth(options.healthPort, () => progress.isReady, logger);
  const tls = followTlsFiles({ ca: options.tlsCa, certificate: options.tlsCertificate, key: options.tlsKey });
  const host = new SelectorProcess({
    ...{ clock: systemClock, logger, clientCredentials: tls.client, serverCredentials: tls.server },
  });
  const finder = new PeerFinder(options.peers, { clock: systemClock, logger, resolve: systemResolve });
  const peers = await finder.find();
  const running = options.kubernetes
    ? await runInCluster(options, host, trust, peers, logger, signal)
    : await runPlain(options, host, trust, peers);
  progress.isReady = true;
  finder.follow((addresses) => running.setPeers(addresses));
  const monitor = new MonitorServer(() => running.status());
  const at = options.monitor.lastIndexOf(':');
  const monitorPort = await monitor.listen(options.monitor.slice(0, at), Number(options.monitor.slice(at + 1)));
  logger.info('Listening', { port: running.port, monitorPort });
  await untilAborted(signal);
  finder.stop();
  monitor.stop();
  await host.stop();
  await health.stop();
}

/** `/livez` while the process turns, `/readyz` once the node is joined and its claims are rebuilt. */
async function startHealth(port: number, isReady: () => boolean, logger: Logger): Promise<HttpServer> {
  const ready = healthHandler(
    new Map([
      [
        'ledger',
        () => {
          if (!isReady()) throw new Error('The claims of this node are not read yet');
        },
      ],
    ]),
  );
  const server = new HttpServer(
    { port },
    new Map([
      ['/livez', healthHandler(new Map())],
      ['/readyz', ready],
    ]),
    logger,
  );
  await server.start();
  return server;
}

/** @throws {InvalidInputError} when the own site's key isn't there: every peer would drop this node. */
function readTrust(folder: string, site: string): [string, KeyObject][] {
  const keys = readdirSync(folder)
    .filter((name) => name.endsWith('.pem'))
    .map((name): [string, KeyObject] => [name.slice(0, -4), createPublicKey(readFileSync(path.join(folder, name)))]);
  if (keys.some(([name]) => name === site)) return keys;
  throw new InvalidInputError('--site-trust', `${folder} has no ${site}.pem: peers would drop this node`);
}

async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help')) {
    const about = 'Finds nodes by their attributes, together with its peers, and keeps the account of its own node.';
    process.stdout.write(helpText('selector [options]', about, selectorOptions));
    return 0;
  }
  const { values } = parseOptions(selectorOptions, argv, process.env);
  const stop = terminationSignal();
  try {
    await run(values, createLogger({ name: 'selector', level: values.logLevel }), stop.signal);
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return 0;
    throw error;
  } finally {
    stop.dispose();
  }
}

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  process.stderr.write(`selector: ${describeError(error)}\n`);
  process.exit(error instanceof InvalidInputError ? 2 : 1);
}
