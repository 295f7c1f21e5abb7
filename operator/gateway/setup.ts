import type { AuditLog } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Registry } from '#common/metrics.ts';
import { sites } from '#crds/site.ts';
import { virtualOrganizations } from '#crds/virtual-organization.ts';
import { voMemberships } from '#crds/vo-membership.ts';
import type { TaskGateway } from '#operator/controllers/execution/pod.ts';
import type { VoSigning } from '#operator/controllers/voauthority/setup.ts';
import type { MembershipIndex } from '#operator/identity/membership-index.ts';
import { TokenMinter } from '#operator/identity/minter.ts';
import { SitesSelection } from '#operator/sites/selection.ts';
import { SitesShared } from '#operator/sites/shared.ts';
import type { ResourceSelection } from '#proto/selector/contract.ts';
import { configMaps, secrets } from '#runtime/builtin.ts';
import { createClient } from '#runtime/client.ts';
import type { CredentialSource } from '#runtime/credentials.ts';
import type { Informer, Manager } from '#runtime/contracts.ts';
import type { Transport } from '#runtime/transport.ts';
import type { KubeObject } from '#runtime/types.ts';
import { Enrolment } from './enrolment.ts';
import { GatewayKeys } from './gateway-keys.ts';
import { Invitations } from './invitations.ts';
import { DeviceLogins } from './login/device-logins.ts';
import { clusterAuthentication, Logins } from './login/logins.ts';
import { GatewayMemberAccess, type MemberAccess } from './member-access.ts';
import { type AccountRequest, MemberTokens } from './member-tokens.ts';
import { Members } from './members.ts';
import { GatewayMetrics } from './metrics.ts';
import { GrpcPeerChannels } from './peers/channels.ts';
import type { PeerChannels, PeerServices } from './peers/contract.ts';
import { PeerDirectory } from './peers/directory.ts';
import { helloMethod, PeerGreeter } from './peers/hello.ts';
import type { PeerStates } from './peers/peer-states.ts';
import { PeerServer } from './peers/services.ts';
import { devicePages } from './pages/device-pages.ts';
import { type ApiServerAddress, gatewayRoutes } from './routes.ts';
import { Explorer } from './selection.ts';
import { GatewayKeeper, GatewayListener, ServingMaterial } from './serving.ts';
import { gatewayLabel } from './sealed-records.ts';
import { Sessions } from './sessions.ts';
import { jobRoutes } from './jobs/routes.ts';
import { ApiTaskDoor } from './task-door.ts';
import { TaskStreams } from './task-streams.ts';

/** What the gateway takes from the process that it runs in. */
export interface GatewaySetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly audit: AuditLog;
  readonly registry: Registry;
  readonly transport: Transport;
  readonly credentials: CredentialSource;
  readonly signing: VoSigning;
  readonly index: MembershipIndex;
  readonly requestAccount: AccountRequest;
  /** Absent where no selectors run. */
  readonly selection: ResourceSelection | undefined;
  readonly localSite: string;
  /** Namespace of the operator. */
  readonly namespace: string;
  readonly port: number;
  /** `host:port` under which users reach the gateway; empty: the Service inside the cluster. */
  readonly address: string;
  /** Name of the Service in front of it. */
  readonly service: string;
  /** Port of that Service. */
  readonly servicePort: number;
  /** URL of the API server as users reach it; empty: as the operator does. */
  readonly apiServer: string;
  readonly version: string;
  /** What is heard of peers goes here. */
  readonly peerStates: PeerStates;
  /** Trust domain of this site; empty: its name. */
  readonly trustDomain: string;
}

/** The door of a site, and the ways through the doors of others. */
export interface Gateway {
  readonly listener: GatewayListener;
  readonly channels: PeerChannels;
  readonly services: PeerServices;
  /** Where pods of this site reach it; undefined until it has a certificate. */
  readonly forTasks: () => TaskGateway | undefined;
  readonly access: MemberAccess;
}

/** Adds the gateway to a manager: it serves on every replica; the leader keeps its certificate. */
export function addGateway(manager: Manager, setup: GatewaySetup): Gateway {
  const { clock, log, audit, registry, namespace, localSite, service, signing, version } = setup;
  // Every replica writes sessions and requests: each write is safe by itself.
  const client = createClient(setup.transport, { fieldManager: 'xtreemos-gateway' });
  const own = manager.informer(secrets, { namespace, labelSelector: gatewayLabel });
  const authentication = manager.informer(configMaps, {
    namespace: clusterAuthentication.namespace,
    fieldSelector: `metadata.name=${clusterAuthentication.name}`,
  });
  const siteInformer = manager.informer(sites);
  const organizations = manager.informer(virtualOrganizations);
  const memberships = manager.informer(voMemberships);
  const trustDomain = setup.trustDomain === '' ? localSite : setup.trustDomain;
  const keys = new GatewayKeys(client, own, namespace);
  const sealer = keys.sealer.bind(keys);
  const parts = { client, clock, localSite };
  const inside = `${service}.${namespace}.svc:${setup.servicePort}`;
  const address = setup.address === '' ? inside : setup.address;
  const sealing = { informer: own, namespace, sealer, refreshKey: keys.refreshKey.bind(keys) };
  const sessions = new Sessions({ ...parts, ...sealing });
  const devices = new DeviceLogins({ ...sealing, client, clock, address });
  const logins = new Logins({
    ...parts,
    devices,
    sites: siteInformer,
    clusterAuthentication: authentication,
    namespace,
    sealer,
  });
  const members = new Members(setup.index, organizations, siteInformer, localSite);
  const memberTokens = new MemberTokens(client, clock, setup.requestAccount);
  const minter = new TokenMinter(signing.keys, signing.records, clock);
  const metrics = new GatewayMetrics(registry);
  const material = new ServingMaterial(own, namespace);
  const caches: readonly Informer<KubeObject>[] = [
    own, authentication, siteInformer, organizations, memberships, signing.keys.informer, signing.records.informer,
  ]; // prettier-ignore
  const synced = async (signal: AbortSignal): Promise<void> => {
    await Promise.all(caches.map(async (each) => each.synced(signal)));
  };
  const directory = new PeerDirectory(siteInformer, localSite);
  const channels = new GrpcPeerChannels(directory, () => material.current);
  const selectionOf = (local: ResourceSelection): ResourceSelection =>
    new SitesSelection({ local, channels, shared: new SitesShared(siteInformer), siteName: localSite, clock });
  const users = gatewayRoutes({
    logins,
    sessions,
    members,
    minter,
    enrolment: new Enrolment({ ...parts, members, minter }),
    invitations: new Invitations({ ...parts, namespace, trustDomain }),
    memberTokens,
    explorer: setup.selection === undefined ? undefined : new Explorer(selectionOf(setup.selection), localSite, clock),
    apiServer: async () => apiServerAddress(setup),
    metrics,
    clock,
    site: localSite,
    address,
    version,
  });
  const routes = [...users, ...jobRoutes({ client, members, clock })];
  const { credentials } = setup;
  const access = new GatewayMemberAccess({
    ...{ members, tokens: memberTokens, credentials, clock },
    caches: [siteInformer, organizations, memberships],
  });
  const door = new ApiTaskDoor(credentials, setup.index);
  const upgrades = new TaskStreams({ door, access, channels, clock, log, audit, metrics });
  const peers = new PeerServer({ directory, clock, log, audit });
  const pages = devicePages({ logins, devices, members, sealer, clock, site: localSite, address });
  const listener = new GatewayListener({
    routes: [...routes, ...pages],
    peers,
    upgrades,
    clock,
    log,
    audit,
    metrics,
    port: setup.port,
    material,
    logins,
    synced,
  });
  manager.addRunnable(listener);
  manager.addRunnable(
    new GatewayKeeper({
      client: manager.client,
      material,
      sessions,
      devices,
      metrics,
      clock,
      log,
      namespace,
      site: localSite,
      address,
      service,
      synced,
      trustDomain,
    }),
  );
  peers.add([helloMethod({ sites: siteInformer, localSite, version })]);
  manager.addRunnable(new PeerGreeter({ channels, states: setup.peerStates, clock, localSite, synced }));
  const forTasks = (): TaskGateway | undefined => {
    const { authority = '' } = material.current ?? {};
    return authority === '' ? undefined : { address: inside, authority };
  };
  return { listener, services: peers, channels, access, forTasks };
}

async function apiServerAddress({ apiServer, credentials }: GatewaySetup): Promise<ApiServerAddress> {
  const { origin, basePath, tls } = await credentials.load(false);
  return { server: apiServer === '' ? `${origin}${basePath}` : apiServer, caBundle: tls.ca ?? '' };
}
