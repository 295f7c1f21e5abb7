import type { Duplex } from 'node:stream';
import type { AuditLog } from '#common/audit.ts';
import { rejectedOnAbort } from '#common/abort.ts';
import type { Clock } from '#common/clock.ts';
import { describeError, TerminalError } from '#common/errors.ts';
import { type FileSystem, fileSystemReady, isLetIn } from '#crds/file-system.ts';
import { homeElsewhere, organizationNamespace } from '#crds/organization.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { homeOwnerOf, type Volume, volumeNameOf } from '#crds/volume.ts';
import { OpenStreams } from '#operator/gateway/open-streams.ts';
import { type PeerCaller, PeerError, type PeerMethod, streaming } from '#operator/gateway/peers/contract.ts';
import type { SharedOrganizations } from '#operator/sites/shared.ts';
import type { UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import { type RelayOpen, type RelayRequest, type RelayResponse, storageMethods } from '#proto/site/schema.ts';
import { isConditionTrue } from '#runtime/conditions.ts';
import type { Informer, Lister } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import { nobodyName } from '#xtreemfs/client/users.ts';
import type { FileUsers } from './file-users.ts';
import { piecesOf, relayLimits, writeAll } from './streams.ts';
import type { RelayTerms, VolumeConnector } from './volume-relay.ts';

/** What {@link HostedVolumes} works with. */
export interface HostedVolumesOptions {
  /** With the index {@link byVolumeUid}. */
  readonly volumes: Pick<Informer<Volume>, 'byIndex'>;
  readonly fileSystems: Lister<FileSystem>;
  readonly organizations: Lister<VirtualOrganization>;
  readonly shared: SharedOrganizations;
  readonly users: FileUsers;
  readonly connector: VolumeConnector;
  /** Called when what is allowed may have changed. */
  readonly onChange: (listener: () => void) => unknown;
  readonly audit: AuditLog;
  readonly clock: Clock;
  readonly localSite: string;
}

/** Index of Volumes by their uid. */
export const byVolumeUid = 'relay/uid';
/** The first message of a stream has to be there in this time, milliseconds. */
const openMs = 10_000;

/**
 * Lets nodes of other sites use the Volumes that this site keeps for virtual organizations of its own. The other site is believed in which of the members
 * of this organization a process of its belongs to, for this volume; nothing else that it says counts, and nobody becomes more than a member by it.
 */
export class HostedVolumes {
  private readonly options: HostedVolumesOptions;
  private readonly streams: OpenStreams;

  constructor(options: HostedVolumesOptions) {
    this.options = options;
    this.streams = new OpenStreams(options.clock, options.onChange, relayLimits);
  }

  /** What peers may call. */
  methods(): PeerMethod[] {
    return [streaming(storageMethods.Relay, (requests, caller) => this.serve(requests, caller))];
  }

  private async *serve(requests: AsyncIterable<RelayRequest>, caller: PeerCaller): AsyncGenerator<RelayResponse> {
    const incoming = requests[Symbol.asyncIterator]();
    const open = await this.first(incoming, caller.signal);
    const record = (outcome: 'Allowed' | 'Refused' | 'Failed', why: string, message?: string): void =>
      this.options.audit.record({
        who: 'anonymous',
        what: 'volume.relay',
        on: {
          Site: caller.site,
          VirtualOrganization: open.virtualOrganization,
          Volume: open.volume,
          Server: open.server,
        },
        ...{ outcome, why, ...(message === undefined ? {} : { message }) },
      });
    const scopes = { peer: caller.site, organization: open.virtualOrganization, member: open.volume };
    let stream: Duplex | undefined;
    try {
      caller.charge(open.virtualOrganization);
      const terms = this.admit(open, caller.site);
      const entry = this.streams.enter(scopes, () => this.problem(open, caller.site));
      try {
        const signal = AbortSignal.any([caller.signal, entry.signal]);
        const connection = await this.connect(terms, open.server, signal);
        stream = connection;
        signal.addEventListener('abort', () => connection.destroy(entry.signal.reason as Error), { once: true });
        record('Allowed', 'Connected');
        yield { opened: true };
        void writeAll(
          this.dataOf(incoming, () => entry.touch()),
          connection,
        );
        for await (const data of piecesOf(connection)) {
          entry.touch();
          yield { data };
        }
        entry.signal.throwIfAborted();
      } finally {
        entry.close();
      }
    } catch (error) {
      if (caller.signal.aborted) throw error;
      if (!(error instanceof PeerError)) {
        // The connection to the server broke, which clients are prepared for.
        record('Failed', 'Failed', describeError(error));
        throw new PeerError('Unreachable', `The connection to ${open.server} ended: ${describeError(error)}`);
      }
      record('Refused', error.reason, error.message);
      throw error;
    } finally {
      stream?.destroy();
    }
  }

  private async first(incoming: AsyncIterator<RelayRequest>, signal: AbortSignal): Promise<RelayOpen> {
    const late = AbortSignal.any([signal, AbortSignal.timeout(openMs)]);
    const next = await Promise.race([incoming.next(), rejectedOnAbort(late)]);
    const open = next.done === true ? undefined : next.value.open;
    if (open === undefined) throw new PeerError('Invalid', 'The first message of a stream has to open it.');
    return open;
  }

  private async *dataOf(incoming: AsyncIterator<RelayRequest>, touch: () => void): AsyncGenerator<Uint8Array> {
    for (;;) {
      const next = await incoming.next();
      if (next.done === true) return;
      touch();
      if (next.value.data !== undefined) yield next.value.data;
    }
  }

  private async connect(terms: RelayTerms, server: string, signal: AbortSignal): Promise<Duplex> {
    try {
      return await this.options.connector.open(terms, server, signal);
    } catch (error) {
      if (error instanceof TerminalError) throw new PeerError('Refused', `${describeError(error)}.`, { cause: error });
      throw new PeerError('Unreachable', `The server can not be reached: ${describeError(error)}`, { cause: error });
    }
  }

  private admit(open: RelayOpen, site: string): RelayTerms {
    const problem = this.problem(open, site);
    const volume = this.find(open);
    const fileSystem =
      volume?.spec.fileSystem === undefined ? undefined : this.options.fileSystems.get(volume.spec.fileSystem);
    if (problem !== undefined) throw problem;
    if (volume === undefined || fileSystem === undefined) throw notHere(open);
    const home = homeOwnerOf(volume.metadata.name);
    return {
      fileSystem,
      volumeName: volumeNameOf(volume.metadata.uid),
      isReadOnly: false,
      permits: (user) => this.isUser(open.virtualOrganization, home, user),
    };
  }

  /** Why a stream may not be, or go on. Whether there is a Volume is told only to sites that it is for. */
  private problem(open: RelayOpen, site: string): PeerError | undefined {
    const { shared, organizations, fileSystems, localSite } = this.options;
    const { virtualOrganization: name } = open;
    if (!shared.has(site, name))
      return new PeerError(
        'Refused',
        `This site does not share ${JSON.stringify(name.slice(0, 64))} with yours: its owner does in the Site of yours.`,
      );
    const organization = organizations.get({ name });
    const isHome = organization !== undefined && homeElsewhere(organization, localSite) === undefined;
    if (!isHome || !organization.spec.sites.includes(site))
      return new PeerError('Refused', `${name} is not at home at this site, or does not name yours.`);
    const state = organization.status?.state;
    if (state !== 'Operational' && state !== 'Frozen')
      return new PeerError('Refused', `${name} is ${state ?? 'not there yet'}: nobody gets its volumes.`);
    const volume = this.find(open);
    if (volume?.spec.fileSystem === undefined || volume.metadata.deletionTimestamp !== undefined) return notHere(open);
    const fileSystem = fileSystems.get(volume.spec.fileSystem);
    if (fileSystem === undefined || fileSystem.metadata.uid !== volume.status?.fileSystemUID) return notHere(open);
    if (!isLetIn(volume.metadata.namespace, fileSystem))
      return new PeerError('Refused', `The FileSystem of the Volume does not let ${name} in any more.`);
    if (!isConditionTrue(fileSystem.status?.conditions, fileSystemReady.type))
      return new PeerError('Unreachable', 'The FileSystem of the Volume does not serve now.');
    return undefined;
  }

  private find({ virtualOrganization, volume }: RelayOpen): Stored<Volume> | undefined {
    return this.options.volumes
      .byIndex(byVolumeUid, volume)
      .find(({ metadata }) => metadata.namespace === organizationNamespace(virtualOrganization));
  }

  /** Members by their names in files, each with groups of their own; and nobody, who has no more rights than others. */
  private isUser(
    virtualOrganization: string,
    home: string | undefined,
    { username, groups }: UserCredentials,
  ): boolean {
    if (username === nobodyName) return groups.every((group) => group === nobodyName);
    if (home !== undefined && home !== username) return false;
    const own = this.options.users.groupsOf(virtualOrganization, username);
    return own !== undefined && groups.every((group) => group === nobodyName || own.includes(group));
  }
}

function notHere({ volume }: RelayOpen): PeerError {
  return new PeerError('NotFound', `There is no Volume with uid ${JSON.stringify(volume.slice(0, 64))} here.`);
}
