import { StateKeeper, type VerifiedGenesis, type VerifiedState, verifyGenesis } from '#common/identity/vo-state.ts';
import { type VirtualOrganization, virtualOrganizations } from '#crds/virtual-organization.ts';
import { type ConfigMap, configMaps } from '#runtime/builtin.ts';
import type { Client, Informer, Manager } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import { controllerReference } from '#runtime/kind.ts';
import type { Stored } from '#runtime/types.ts';
import { nameLabel, uidLabel } from './cert-manager.ts';

const stateLabel = 'xtreemos.io/vo-state';

/** The signed documents of one organization. */
export interface Documents {
  /** JWS. */
  readonly genesis: string;
  /** JWS. */
  readonly state: string;
}

/** A state that was signed here and is not known here any more, and the site that told of it. */
export interface Reminder {
  readonly site: string;
  /** JWS. */
  readonly state: string;
}

/** Documents as they are recorded; `version` is for compare-and-swap. */
export interface StoredDocuments extends Documents {
  readonly version: string;
  /** There from when a site reminds of it until the organization is Operational again. */
  readonly reminder: Reminder | undefined;
}

/**
 * Where the newest signed state of each organization is recorded: a ConfigMap in the operator's namespace. A state is published from here only, and
 * comes here only by compare-and-swap, so that no two contents ever bear one number, whoever leads and whenever a process dies.
 */
export class StateRecords {
  /** Wakes when a state was recorded. */
  readonly informer: Informer<ConfigMap>;
  private readonly client: Client;
  private readonly namespace: string;
  private readonly keepers = new Map<string, { readonly genesisJws: string; readonly keeper: Promise<StateKeeper> }>();
  private readonly verified = new WeakMap<Stored<ConfigMap>, Promise<VerifiedState>>();

  constructor(manager: Pick<Manager, 'informer' | 'client'>, namespace: string) {
    this.client = manager.client;
    this.namespace = namespace;
    this.informer = manager.informer(configMaps, { namespace, labelSelector: stateLabel });
  }

  /** What is recorded, as the API server has it now. */
  async read(uid: string, signal: AbortSignal): Promise<StoredDocuments | undefined> {
    const found = await this.client.of(configMaps).find(this.keyOf(uid), { signal });
    if (found === undefined) return undefined;
    const { genesis = '', state = '', reminder, remindedBy = '' } = found.data ?? {};
    return {
      ...{ genesis, state, version: found.metadata.resourceVersion },
      reminder: reminder === undefined ? undefined : { site: remindedBy, state: reminder },
    };
  }

  /**
   * Records documents.
   * @param version - of the documents that these replace; undefined when there must be none.
   * @param reminder - what is to be kept of it.
   * @throws {ConflictError} or {AlreadyExistsError} when somebody else was faster: nothing was recorded.
   */
  async write(
    vo: Stored<VirtualOrganization>,
    documents: Documents,
    version: string | undefined,
    reminder: Reminder | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { name, uid } = vo.metadata;
    const object: ConfigMap = {
      metadata: {
        ...this.keyOf(uid),
        labels: { [stateLabel]: 'true', [uidLabel]: uid, [nameLabel]: name },
        ownerReferences: [controllerReference(virtualOrganizations, vo)],
        resourceVersion: version,
      },
      data: {
        ...{ genesis: documents.genesis, state: documents.state },
        ...(reminder === undefined ? {} : { reminder: reminder.state, remindedBy: reminder.site }),
      },
    };
    const client = this.client.of(configMaps);
    await (version === undefined ? client.create(object, { signal }) : client.update(object, { signal }));
  }

  /** Removes the record. */
  async remove(uid: string, signal: AbortSignal): Promise<void> {
    this.keepers.delete(uid);
    await ignoreNotFound(this.client.of(configMaps).delete(this.keyOf(uid), { signal }));
  }

  /**
   * The newest state that this process has seen, from the cache. An older one that was put in its place is not taken.
   * @throws {CredentialError} when what is recorded is older than what was seen, or isn't signed by the root key.
   */
  async newest(
    uid: string,
    genesisDigest: string,
  ): Promise<{ documents: Documents; state: VerifiedState } | undefined> {
    const found = this.informer.get(this.keyOf(uid));
    const { genesis, state } = found?.data ?? {};
    if (found === undefined || genesis === undefined || state === undefined) return undefined;
    let accepted = this.verified.get(found);
    if (accepted === undefined) {
      accepted = this.keeperOf(uid, genesis, genesisDigest).then(async (keeper) => keeper.accept(state));
      this.verified.set(found, accepted);
    }
    return { documents: { genesis, state }, state: await accepted };
  }

  private async keeperOf(uid: string, genesisJws: string, genesisDigest: string): Promise<StateKeeper> {
    let known = this.keepers.get(uid);
    if (known?.genesisJws !== genesisJws) {
      const before = known?.keeper;
      const keeper = verifyGenesis(genesisJws, genesisDigest).then(async (genesis: VerifiedGenesis) => {
        // Another signature of the same founding document doesn't make anyone forget what was seen.
        const old = await before?.catch(() => undefined);
        return old ?? new StateKeeper(genesis);
      });
      known = { genesisJws, keeper };
      this.keepers.set(uid, known);
    }
    return known.keeper;
  }

  private keyOf(uid: string): { readonly namespace: string; readonly name: string } {
    return { namespace: this.namespace, name: `vo-${uid}-state` };
  }
}
