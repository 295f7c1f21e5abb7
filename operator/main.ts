/** The operator: controllers of every kind, one replica acting at a time. `node operator/main.ts --help`. */
import { hostname } from 'node:os';
import path from 'node:path';
import { type AuditLog, JsonAuditLog } from '#common/audit.ts';
import { systemClock } from '#common/clock.ts';
import { describeError, InvalidInputError, TerminalError } from '#common/errors.ts';
import { createLogger, type Logger } from '#common/logger.ts';
import { createRegistry, type Registry } from '#common/metrics.ts';
import { helpText, parseOptions } from '#common/options.ts';
import { systemRandom } from '#common/random.ts';
import { sites } from '#crds/site.ts';
import { volumes } from '#crds/volume.ts';
import { GrpcResourceSelection } from '#proto/selector/client.ts';
import type { ResourceSelection } from '#proto/selector/contract.ts';
import { followTlsFiles } from '#proto/selector/tls.ts';
import {
  createClient,
  createManager,
  createRuntimeMetrics,
  type CredentialSource,
  defaultCredentials,
  HttpTransport,
  kubeConfigCredentials,
  LeadershipLostError,
  type Manager,
  namespaces,
  nodes,
  serviceAccounts,
  terminationSignal,
  type Transport,
} from '#runtime/index.ts';
import { Decisions } from './controllers/decisions.ts';
import { addFileSystemController } from './controllers/filesystem/setup.ts';
import { addIdentityController } from './controllers/identity/setup.ts';
import { Homes } from './controllers/execution/homes.ts';
import { MemberSurroundings } from './controllers/execution/member-surroundings.ts';
import { KubeletLogs } from './controllers/execution/task-logs.ts';
import { addJobControllers } from './controllers/gridjob/setup.ts';
import { addSiteController } from './controllers/site/setup.ts';
import { addVirtualOrganizationController } from './controllers/virtualorganization/setup.ts';
import { addVolumeController } from './controllers/volume/setup.ts';
import { addVoAuthorityController } from './controllers/voauthority/setup.ts';
import { addMembershipControllers } from './controllers/vomembership/setup.ts';
import { addFederation } from './federation/setup.ts';
import { PeerStates } from './gateway/peers/peer-states.ts';
import { addGateway, type Gateway } from './gateway/setup.ts';
import { memberAccounts, requestAccount } from './identity/accounts.ts';
import { createIdentities, type Identities } from './identity/setup.ts';
import { MembershipNames } from './sites/members.ts';
import { MirroredVolumes } from './sites/volumes.ts';
import { SitesShared } from './sites/shared.ts';
import { addVolumeRelay } from './storage/relay/setup.ts';
import { SiteInstallations } from './storage/installations.ts';
import { type OperatorOptions, operatorOptions } from './options.ts';
import { createServingCertificate } from './serving-certificate.ts';
import { productVersion } from './version.ts';

const program = 'xtreemos-operator';
const about =
  'Runs the controllers of XtreemOS on this cluster. Several replicas may run; one acts, the others wait to take over.\nEnds with 0 after SIGTERM or SIGINT, 1 when it failed or lost the lease, 2 for wrong options.';
const help = helpText('operator [options]', about, {
  ...operatorOptions,
}).concat(
  '  --help                             Show this text\n  --version                          Show the version\n',
);

/** Waits so long between attempts to renew, as a part of the lease's duration; the proportions are client-go's. */
const renewDeadlinePart = 2 / 3;
const retryPart = 2 / 15;

/** Runs until the signal aborts. @throws what made the manager end. */
async function run(options: OperatorOptions, log: Logger, signal: AbortSignal): Promise<void> {
  const registry = createRegistry({ process: true });
  const metrics = createRuntimeMetrics(registry);
  const credentials =
    options.kubeconfig === '' ? defaultCredentials() : kubeConfigCredentials({ file: options.kubeconfig });
  const transport = new HttpTransport({
    credentials,
    logger: log,
    metrics,
    userAgent: `${program}/${productVersion}`,
    // The API server's priority and fairness shares out its time, for which the chart makes a level; what waits here is bounded all the same.
    throttle: { qps: Infinity },
  });
  const manager = createManager({
    name: program,
    transport,
    logger: log,
    registry,
    metrics,
    metricsServer: options.metricsAuth
      ? {
          port: options.metricsPort,
          isProtected: true,
          tls: await createServingCertificate(`${program}.${options.namespace}`, systemClock),
        }
      : { port: options.metricsPort },
    healthServer: { port: options.healthPort },
    graceMs: options.stopGraceMs,
    lease: options.leaderElect
      ? {
          namespace: options.namespace,
          name: options.leaseName,
          // A process that starts again in the same pod is another holder.
          identity: `${identityOf(options)}_${process.pid}_${systemClock.now().toString(36)}`,
          durationMs: options.leaseDurationMs,
          renewDeadlineMs: options.leaseDurationMs * renewDeadlinePart,
          retryMs: options.leaseDurationMs * retryPart,
        }
      : undefined,
  });
  addEverything(manager, { options, log, registry, transport, credentials, life: signal });
  try {
    await manager.run(signal);
  } finally {
    await transport.close();
  }
}

/** What this replica is called: in a cluster, its pod. */
function identityOf({ identity }: OperatorOptions): string {
  return identity === '' ? hostname() : identity;
}

interface Surroundings {
  readonly options: OperatorOptions;
  readonly log: Logger;
  readonly registry: Registry;
  readonly transport: Transport;
  readonly credentials: CredentialSource;
  /** Ends with the process. */
  readonly life: AbortSignal;
}

/** Every controller, and the gateway. */
function addEverything(manager: Manager, surroundings: Surroundings): void {
  const { options, log, registry, transport, credentials } = surroundings;
  const { siteName: localSite, namespace } = options;
  const clock = systemClock;
  const audit = new JsonAuditLog(clock);
  const decisions = new Decisions(audit, namespace);
  const logOf = (controller: string): Logger => log.with({ controller });
  const peerStates = new PeerStates();
  addSiteController(manager, {
    clock,
    peers: peerStates,
    log: logOf('site'),
    registry,
    local: { name: localSite, attributes: options.siteAttributes, heartbeatMs: options.siteHeartbeatMs },
    probes: { image: options.image, namespace, identity: identityOf(options) },
    xtreemosVersion: productVersion,
  });
  const identities = createIdentities(manager, localSite, clock);
  addIdentityController(manager, { clock, identities, log: logOf('identity') });
  addMembershipControllers(manager, { clock, registry, identities, audit, decisions, log: logOf('vomembership') });
  const signing = addVoAuthorityController(manager, { clock, log: logOf('voauthority'), audit, localSite, namespace });
  const { authority } = signing;
  addVirtualOrganizationController(manager, {
    clock,
    log: logOf('virtualorganization'),
    registry,
    decisions,
    authority,
    members: identities.index,
    localSite,
    reservedRanges: options.reservedRanges,
    // On any free port it is not reached by pods.
    gateway: { namespace, port: options.gatewayPort === 0 ? options.gatewayServicePort : options.gatewayPort },
  });
  if (options.image !== '') addStorage(manager, surroundings);
  const selection = options.selector === '' ? undefined : selectionOf(options);
  // Any replica may ask for an account; the leader makes it.
  const client = createClient(transport, { fieldManager: 'xtreemos-gateway' });
  const gateway = addGateway(manager, {
    clock,
    log: log.with({ part: 'gateway' }),
    audit,
    registry,
    transport,
    credentials,
    signing,
    index: identities.index,
    requestAccount: async (membership, untilMs, stop) => requestAccount(client, clock, membership, untilMs, stop),
    selection,
    localSite,
    namespace,
    port: options.gatewayPort,
    address: options.gatewayAddress,
    service: options.gatewayService,
    servicePort: options.gatewayServicePort,
    apiServer: options.apiServerAddress,
    version: productVersion,
    trustDomain: options.trustDomain,
    peerStates,
  });
  addFederation(manager, {
    clock,
    log: log.with({ part: 'federation' }),
    identities,
    records: signing.records,
    namespace: options.namespace,
    gateway,
  });
  if (options.image !== '') {
    const { relayTls: tlsFolder, relayPort: port } = options;
    addVolumeRelay(manager, { clock, audit, identities, gateway, tlsFolder, port, log: log.with({ part: 'relay' }) });
  }
  if (selection === undefined) return;
  addJobs(manager, { options, log, registry, transport, identities, selection, gateway, audit });
}

/** FileSystems and Volumes. */
function addStorage(
  manager: Manager,
  { options, log, registry, life }: Pick<Surroundings, 'options' | 'log' | 'registry' | 'life'>,
): void {
  const { namespace, image, certificateIssuer: issuer, storageTls } = options;
  const clock = systemClock;
  const installations = new SiteInstallations(storageTls, { clock, logger: log.with({ part: 'storage' }) });
  const servers = { registry, installations, namespace, image, issuer };
  addFileSystemController(manager, { clock, log: log.with({ controller: 'filesystem' }), ...servers });
  addVolumeController(manager, { clock, log: log.with({ controller: 'volume' }), installations, life });
}

/** The selector beside this process. */
function selectionOf({ selector, selectorTls }: OperatorOptions): ResourceSelection {
  const file = (name: string): string => path.join(selectorTls, name);
  const tls = followTlsFiles({ ca: file('ca.crt'), certificate: file('tls.crt'), key: file('tls.key') });
  return new GrpcResourceSelection(selector, tls.client);
}

/** Jobs: their nodes are found through the selector beside this process. */
function addJobs(
  manager: Manager,
  {
    options,
    log,
    registry,
    transport,
    identities,
    selection,
    gateway,
    audit,
  }: Pick<Surroundings, 'options' | 'log' | 'registry' | 'transport'> & {
    readonly identities: Identities;
    readonly selection: ResourceSelection;
    readonly gateway: Gateway;
    readonly audit: AuditLog;
  },
): void {
  const surroundings = new MemberSurroundings({
    identities,
    accounts: manager.informer(serviceAccounts, memberAccounts),
    namespaces: manager.informer(namespaces),
    nodes: manager.informer(nodes),
    homes: new Homes(manager.client, manager.informer(volumes), options.siteName),
    gateway: gateway.forTasks,
    client: manager.client,
    clock: systemClock,
  });
  addJobControllers(manager, {
    ...{ clock: systemClock, random: systemRandom(), log, registry, siteName: options.siteName, surroundings },
    selection,
    transport,
    peers: {
      ...{ channels: gateway.channels, services: gateway.services, namespace: options.namespace },
      shared: new SitesShared(manager.informer(sites)),
      members: new MembershipNames(identities.index),
      volumes: new MirroredVolumes(manager.informer(volumes), identities.organizations, options.siteName),
      ...{ access: gateway.access, audit },
    },
    admission: ({ metadata, spec }) => surroundings.refusalOf(metadata.namespace ?? '', spec.owner),
    reservationAdmission: (namespace, owner) => surroundings.refusalOf(namespace, owner)?.message,
    taskLogs: new KubeletLogs(transport, log),
    isInGroup: (namespace, userName, groups) => surroundings.isInGroup(namespace, userName, groups),
  });
}

async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(help);
    return 0;
  }
  if (argv.includes('--version')) {
    process.stdout.write(`${productVersion}\n`);
    return 0;
  }
  const { values, words } = parseOptions(operatorOptions, argv, process.env);
  if (words.length > 0) {
    throw new InvalidInputError(
      'command line',
      `${JSON.stringify(words[0])} is not expected: give options only, see --help`,
    );
  }
  const log = createLogger({ level: values.logLevel, name: 'operator' });
  const stop = terminationSignal();
  log.info('Starting operator', { version: productVersion, site: values.siteName });
  try {
    await run(values, log, stop.signal);
    return 0;
  } catch (error) {
    if (error instanceof TerminalError) log.error('Can not run', { problem: describeError(error) });
    else if (error instanceof LeadershipLostError) log.error('Ending, the lease was lost', { problem: error.message });
    else log.error('Failed', { err: error });
    return 1;
  } finally {
    stop.dispose();
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = 2;
}
