import type { AuditLog } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { claims as claimKind } from '#crds/claim.ts';
import { executions, podLabels } from '#crds/execution.ts';
import { podsOf } from '#operator/controllers/execution/controller.ts';
import type { LogKeeper } from '#operator/controllers/execution/log-keeper.ts';
import type { MemberAccess } from '#operator/gateway/member-access.ts';
import type { PeerChannels, PeerServices } from '#operator/gateway/peers/contract.ts';
import type { ResourceSelection } from '#proto/selector/contract.ts';
import { pods as podKind } from '#runtime/builtin.ts';
import { createClient } from '#runtime/client.ts';
import type { Manager } from '#runtime/contracts.ts';
import type { Transport } from '#runtime/transport.ts';
import { AwayClaims } from './away-claims.ts';
import { AwayParts } from './away.ts';
import { HomeLeases, LeaseFencer } from './home-leases.ts';
import { HostedParts } from './host.ts';
import { HostedStreams } from './hosted-streams.ts';
import type { SiteMembers } from './members.ts';
import { HostedClaims } from './peer-claims.ts';
import { ApiPodConnector } from './pod-connector.ts';
import { SitesSelection } from './selection.ts';
import { HostedSelection } from './selection-service.ts';
import type { SharedOrganizations } from './shared.ts';
import type { SharedVolumes } from './volumes.ts';

/** What work over sites takes from the process it runs in. */
export interface SitesSetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly transport: Transport;
  readonly channels: PeerChannels;
  readonly services: PeerServices;
  /** The selector of this site. */
  readonly selection: ResourceSelection;
  readonly keeper: LogKeeper;
  readonly shared: SharedOrganizations;
  readonly members: SiteMembers;
  readonly volumes: SharedVolumes;
  /** What members may do here who ask from their job's home. */
  readonly access: MemberAccess;
  readonly audit: AuditLog;
  readonly siteName: string;
  readonly nodeExists: (name: string) => boolean;
  /** Namespace of the operator. */
  readonly namespace: string;
}

/** Work of this site elsewhere. */
export interface SitesWork {
  /** Nodes of every site. */
  readonly selection: ResourceSelection;
  readonly away: AwayParts;
  /** Leases of peers whose work runs here. */
  readonly leases: HomeLeases;
}

/** Adds what carries out work of peers here, and of this site at peers. */
export function addSitesWork(manager: Manager, setup: SitesSetup): SitesWork {
  const { clock, channels, services, siteName, keeper, namespace, shared, members, volumes } = setup;
  const log = setup.log.with({ part: 'sites' });
  const parts = manager.informer(executions);
  const pods = manager.informer(podKind, { labelSelector: podLabels.execution });
  // Every replica serves peers; each write is safe by itself.
  const client = createClient(setup.transport, { fieldManager: 'xtreemos-gateway' });
  const claims = manager.informer(claimKind);
  const { nodeExists } = setup;
  const hostedClaims = new HostedClaims({ claims, client, shared, nodeExists, clock, log });
  const hostedSelection = new HostedSelection(setup.selection, shared, hostedClaims, clock);
  const hosted = new HostedParts({
    ...{ executions: parts, client, clock, log, shared, members, volumes, selection: hostedSelection },
    podsOf: (execution) => podsOf(pods, execution),
    leases: new HomeLeases(client, clock, namespace),
  });
  const streams = new HostedStreams({
    ...{ shared, clock, access: setup.access, audit: setup.audit, connector: new ApiPodConnector() },
    find: hosted.find.bind(hosted),
    podsOf: (execution) => podsOf(pods, execution),
  });
  services.add([hostedSelection, hostedClaims, hosted, streams].flatMap((each) => each.methods()));
  const leases = new HomeLeases(manager.client, clock, namespace);
  manager.addRunnable(new LeaseFencer({ executions: parts, client: manager.client, leases, clock, log }));
  const away = new AwayParts({
    ...{ executions: parts, channels, members, volumes, clock, log },
    keepLogs: async (execution, logs, signal) => keeper.add(execution, logs, signal),
  });
  manager.addRunnable(away);
  manager.addRunnable(new AwayClaims({ claims, channels, client: manager.client, clock, log }));
  return { away, leases, selection: new SitesSelection({ local: setup.selection, channels, shared, siteName, clock }) };
}
