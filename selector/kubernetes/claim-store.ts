import type { Clock } from '#common/clock.ts';
import { InvalidInputError, TerminalError } from '#common/errors.ts';
import { claimPreempted, claims, type ClaimObject, type ClaimSpec } from '#crds/claim.ts';
import { setCondition } from '#runtime/conditions.ts';
import type { Client, InformerEvent, ObjectClient } from '#runtime/contracts.ts';
import { AlreadyExistsError, ConflictError, NotFoundError } from '#runtime/errors.ts';
import { isDeleting, type ObjectKey, type Stored } from '#runtime/types.ts';
import { quantitiesOf } from '#proto/selector/resources.ts';
import type { Claim, ClaimStore } from '#selector/ledger/store.ts';
import { namespacePrefix } from './bound-pods.ts';
import { amountOf } from './node-facts.ts';

/** The Claims of one node, as a cache that was filled from the API server has them. */
export interface NodeClaims {
  list(): Stored<ClaimObject>[];
  /** Calls back for what is there now, then for every change. */
  follow(listener: (event: InformerEvent<ClaimObject>) => void): void;
}

/** What the claims of one node are kept with. */
export interface ClaimStoreParts {
  readonly client: Client;
  readonly claims: NodeClaims;
  readonly nodeName: string;
  readonly clock: Clock;
}

/** Claims of one node as `Claim` objects in the namespaces of their virtual organizations: one write each to make and to remove. */
export class KubernetesClaimStore implements ClaimStore {
  private readonly client: ObjectClient<ClaimObject>;
  private readonly parts: ClaimStoreParts;
  /** By claim: which very object holds it. */
  private readonly uids = new Map<string, string>();

  constructor(parts: ClaimStoreParts) {
    this.parts = parts;
    this.client = parts.client.of(claims);
  }

  /** Claims of the node, as new as the API server knows them when the informer was filled. */
  async list(): Promise<readonly Claim[]> {
    return this.parts.claims.list().map((object) => this.remember(object));
  }

  /**
   * Tells of Claims that came or went without this store: made by hand, restored, deleted with their owner. What is there
   * already is told of first.
   */
  follow(listener: { readonly appeared: (claim: Claim) => void; readonly vanished: (id: string) => void }): void {
    this.parts.claims.follow((event) => {
      const { object } = event;
      const { name: id, uid } = object.metadata;
      if (event.type === 'deleted') {
        if (this.uids.get(id) !== uid) return;
        this.uids.delete(id);
        listener.vanished(id);
      } else if (event.type === 'added' && !isDeleting(object)) listener.appeared(this.remember(object));
    });
  }

  async put(claim: Claim): Promise<void> {
    const { nodeName } = this.parts;
    const object = objectOf(claim, nodeName);
    try {
      this.remember(await this.client.create(object));
    } catch (error) {
      if (error instanceof NotFoundError) {
        throw new TerminalError(`This site has no namespace ${namespaceOf(claim)}`, { cause: error });
      }
      if (!(error instanceof AlreadyExistsError)) throw error;
      const found = await this.client.find(keyOf(claim));
      // A write whose answer was lost has happened; anything else of that name is another's.
      if (found === undefined || isDeleting(found) || !isSame(found, object)) {
        throw new InvalidInputError('id', `${claim.id} is in use for another Claim: choose a new one`, {
          cause: error,
        });
      }
      this.remember(found);
    }
  }

  async remove(claim: Claim): Promise<void> {
    const key = keyOf(claim);
    let uid = this.uids.get(claim.id);
    if (uid === undefined) {
      const found = await this.client.find(key);
      if (found === undefined || !isSame(found, objectOf(claim, this.parts.nodeName))) return;
      uid = found.metadata.uid;
    }
    try {
      await this.client.delete(key, { preconditions: { uid } });
    } catch (error) {
      // Gone, or another object of that name: ours is not there any more.
      if (!(error instanceof NotFoundError || error instanceof ConflictError)) throw error;
    }
    this.uids.delete(claim.id);
  }

  async markPreempted(claim: Claim): Promise<void> {
    const uid = this.uids.get(claim.id);
    if (uid === undefined) return;
    const conditions = setCondition(
      [],
      {
        type: claimPreempted.type,
        status: 'True',
        reason: claimPreempted.reasons.ReservationBegan,
        message: 'A reservation of this node has begun that needs the place: stop the work and release the claim.',
      },
      this.parts.clock.now(),
    );
    const { namespace, name } = keyOf(claim);
    try {
      await this.client.status.apply({ metadata: { namespace, name, uid }, status: { conditions: [...conditions] } });
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
    }
  }

  private remember(object: Stored<ClaimObject>): Claim {
    const claim = claimOf(object);
    this.uids.set(claim.id, object.metadata.uid);
    return claim;
  }
}

function namespaceOf({ virtualOrganization }: Claim): string {
  return `${namespacePrefix}${virtualOrganization}`;
}

function keyOf(claim: Claim): ObjectKey {
  return { namespace: namespaceOf(claim), name: claim.id };
}

/** Whether the API server has kept what was written: the same promise of the same node to the same owner. */
function isSame(found: ClaimObject, written: ClaimObject): boolean {
  const { spec: a } = found;
  const { spec: b } = written;
  return a.nodeName === b.nodeName && a.owner === b.owner && a.startTime === b.startTime && a.mode === b.mode;
}

/** The object of a claim. */
export function objectOf(claim: Claim, nodeName: string): ClaimObject {
  const { id, owner, demand, span, reservation, ownerReference, isReservation, isPreemptible, isDraining } = claim;
  const resources = quantitiesOf(demand);
  const spec: ClaimSpec = {
    ...{ nodeName, owner, mode: isReservation ? 'Reservation' : isPreemptible ? 'Preemptible' : 'Firm', resources },
    startTime: new Date(span.startMs).toISOString(),
    ...(span.endMs === Infinity ? {} : { endTime: new Date(span.endMs).toISOString() }),
    ...(reservation === undefined ? {} : { reservation }),
    ...(isReservation ? { atStart: isDraining ? 'Drain' : 'Preempt' } : {}),
  };
  const ownerReferences = ownerReference === undefined ? {} : { ownerReferences: [{ ...ownerReference }] };
  return { metadata: { namespace: namespaceOf(claim), name: id, ...ownerReferences }, spec };
}

/** The claim of an object. */
export function claimOf({ metadata, spec }: ClaimObject): Claim {
  const { namespace = '', name } = metadata;
  const demand = Object.fromEntries(
    Object.entries(spec.resources).map(([resource, quantity]) => [resource, amountOf(resource, quantity, 'up')]),
  );
  return {
    ...{ id: name, owner: spec.owner, virtualOrganization: namespace.slice(namespacePrefix.length), demand },
    span: {
      startMs: Date.parse(spec.startTime),
      endMs: spec.endTime === undefined ? Infinity : Date.parse(spec.endTime),
    },
    isPreemptible: spec.mode === 'Preemptible',
    isReservation: spec.mode === 'Reservation',
    isDraining: spec.atStart === 'Drain',
    ...(spec.reservation === undefined ? {} : { reservation: spec.reservation }),
  };
}
