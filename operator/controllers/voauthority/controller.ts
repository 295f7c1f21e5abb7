import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import {
  statePublished,
  type VirtualOrganization,
  virtualOrganizationDefinition,
  virtualOrganizations,
  type VirtualOrganizationStatus,
} from '#crds/virtual-organization.ts';
import { homeElsewhere } from '#crds/organization.ts';
import { apiVersionOf } from '#crds/kind.ts';
import type { Authority, Publication } from '#operator/identity/authority.ts';
import { findCondition, setCondition } from '#runtime/conditions.ts';
import {
  type Client,
  done,
  type EventRecorder,
  type Lister,
  type Reconciler,
  requeueAfter,
  type Result,
} from '#runtime/contracts.ts';
import { AlreadyExistsError, ConflictError, NotFoundError } from '#runtime/errors.ts';
import type { Condition, ObjectKey, Stored } from '#runtime/types.ts';

/** Owner of the fields of the status that tell of the signed state. */
const fieldManager = 'xtreemos-authority';
/** How often cert-manager is looked for while it is missing, milliseconds. */
const certManagerRetryMs = 30_000;

/** What the reconciler works with. */
export interface VoAuthorityParts {
  readonly organizations: Lister<VirtualOrganization>;
  readonly authority: Authority;
  readonly localSite: string;
  readonly client: Client;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly log: Logger;
}

type Finding = Pick<Condition, 'status' | 'reason' | 'message'>;

/** Keeps the signed state of virtual organizations published, and what the status tells of it. */
export class VoAuthorityReconciler implements Reconciler {
  private readonly parts: VoAuthorityParts;

  constructor(parts: VoAuthorityParts) {
    this.parts = parts;
  }

  async reconcile({ name }: ObjectKey, signal: AbortSignal): Promise<Result> {
    const { organizations, authority } = this.parts;
    const vo = organizations.get({ name });
    await authority.sweep(name, vo?.metadata.uid, signal);
    // For one whose home is elsewhere only its home signs.
    if (vo === undefined || homeElsewhere(vo, this.parts.localSite) !== undefined) return done;
    // What was never signed needs no final state either.
    if (vo.spec.state === 'Dissolved' && vo.status?.genesis === undefined) return done;
    try {
      const publication = await authority.publish(vo, signal);
      await this.report(vo, publication, signal);
      return publication.isSigned ? requeueAfter(publication.changesAfterMs) : done;
    } catch (error) {
      if (error instanceof AlreadyExistsError) throw conflictOf(error);
      if (!(error instanceof NotFoundError) || !error.message.includes('cert-manager.io')) throw error;
      const message = 'cert-manager is not installed, and it makes the keys: install it.';
      await this.write(vo, {}, { status: 'False', reason: statePublished.reasons.CertManagerMissing, message }, signal);
      return requeueAfter(certManagerRetryMs);
    }
  }

  private async report(vo: Stored<VirtualOrganization>, publication: Publication, signal: AbortSignal): Promise<void> {
    if (!publication.isSigned) {
      const { reason, message } = publication;
      await this.write(vo, {}, { status: 'False', reason, message }, signal);
      return reason === 'Restored' ? this.freeze(vo, signal) : undefined;
    }
    const { genesis, state, irregularities, restored } = publication;
    for (const { reason, message } of irregularities) this.tell(vo, 'Warning', reason, message);
    const { epoch } = state.content;
    const fields = { epoch, stateDigest: state.digest, genesis: genesis.digest, authority: genesis.rootKid };
    const isFinal = state.content.state === 'Dissolved';
    const finding: Finding = {
      status: 'True',
      reason: isFinal ? statePublished.reasons.Final : statePublished.reasons.Published,
      message: isFinal
        ? 'The final state is published: no credential holds any longer.'
        : 'The newest state is signed and published.',
    };
    const isSettled = restored === undefined || isFinal || vo.spec.state === 'Operational';
    const told = isSettled ? finding : { ...finding, reason: statePublished.reasons.Restored, message: restored };
    return this.write(vo, fields, told, signal);
  }

  /** Nothing new starts until an administrator has looked at what was restored. */
  private async freeze({ metadata }: Stored<VirtualOrganization>, signal: AbortSignal): Promise<void> {
    const { name, resourceVersion } = metadata;
    const body = { metadata: { resourceVersion }, spec: { state: 'Frozen' } };
    await this.parts.client.of(virtualOrganizations).patch({ name }, { type: 'merge', body }, { signal });
  }

  private async write(
    vo: Stored<VirtualOrganization>,
    fields: Pick<VirtualOrganizationStatus, 'epoch' | 'stateDigest' | 'genesis' | 'authority'>,
    finding: Finding,
    signal: AbortSignal,
  ): Promise<void> {
    const { epoch, stateDigest, genesis, authority } = vo.status ?? {};
    // What was published once stays told, whatever is wrong now.
    const after = JSON.parse(JSON.stringify({ epoch, stateDigest, genesis, authority, ...fields })) as typeof fields;
    const before = findCondition(vo.status?.conditions, statePublished.type);
    const update = { type: statePublished.type, ...finding, observedGeneration: vo.metadata.generation };
    const conditions = [...setCondition(before === undefined ? [] : [before], update, this.parts.clock.now())];
    const isSame =
      JSON.stringify([epoch, stateDigest, genesis, authority]) ===
      JSON.stringify([after.epoch, after.stateDigest, after.genesis, after.authority]);
    if (isSame && conditions[0] === before) return;
    const { name, uid } = vo.metadata;
    const status = { ...after, conditions };
    await this.parts.client
      .of(virtualOrganizations)
      .status.apply({ metadata: { name, uid }, status }, { signal, fieldManager });
    if (before?.reason !== finding.reason) {
      this.tell(vo, finding.status === 'True' ? 'Normal' : 'Warning', finding.reason, finding.message);
    }
  }

  private tell(vo: Stored<VirtualOrganization>, type: 'Normal' | 'Warning', reason: string, note: string): void {
    const { name, uid } = vo.metadata;
    const object = {
      apiVersion: apiVersionOf(virtualOrganizationDefinition),
      kind: virtualOrganizationDefinition.kind,
      name,
      uid,
    };
    this.parts.events.publish({ object, type, reason, note });
    this.parts.log[type === 'Normal' ? 'info' : 'warn'](
      type === 'Normal' ? 'Published state' : 'State is not as it should be',
      {
        VirtualOrganization: name,
        reason,
      },
    );
  }
}

/** Somebody else recorded first: look again, quietly. */
function conflictOf(error: AlreadyExistsError): ConflictError {
  return new ConflictError({ method: 'POST', path: 'state record' }, error.statusCode, { message: error.message });
}
