/** What people decided by changing objects, for the audit log. */
import type { AuditLog, AuditRecord } from '#common/audit.ts';
import { remember } from '#common/remember.ts';
import { changedByAnnotation } from '#crds/policies/changes.ts';
import type { KubeObject, Stored } from '#runtime/types.ts';

/** Who did something, as far as the objects tell. */
export interface Actor {
  readonly who: string;
  /** What there is to say of it: why it is not known, for example. */
  readonly note?: string | undefined;
}

/** A change of a spec. */
export interface SpecChange {
  readonly actor: Actor;
  /** Whether the object was not looked at before. */
  readonly isNew: boolean;
}

/** Named in a record when the objects do not tell who it was. */
export const unknownActor = 'unknown';
/** So many objects are remembered. */
const rememberedMax = 20_000;

/**
 * Who changed the spec since it was looked at last. Admission stamps the last one only, so that of several changes none is known.
 * @param seenGeneration - the generation that was looked at; undefined before the first look.
 */
export function whoChanged({ metadata }: Stored<KubeObject>, seenGeneration: number | undefined): Actor {
  const by = metadata.annotations?.[changedByAnnotation];
  const changes = (metadata.generation ?? 0) - (seenGeneration ?? 0);
  if (by === undefined) {
    return { who: unknownActor, note: 'Who did it is in the audit log of the API server only.' };
  }
  if (changes === 1) return { who: by };
  const note = `It was changed ${changes} times since it was looked at last, lastly by ${by}; the audit log of the API server tells who else.`;
  return { who: unknownActor, note };
}

/**
 * Records each decision once. A record is written before the status that shows that the decision was seen, so that none is lost; should the
 * process die between the two, the next one records it again.
 */
export class Decisions {
  private readonly audit: AuditLog;
  private readonly ownAccounts: string;
  /** Generation of each object whose spec was looked at: caches and statuses lag behind. */
  private readonly seen = new Map<string, number>();
  /** The last decision of a kind on each object. */
  private readonly last = new Map<string, string>();

  /** @param namespace - of the operator, whose own acts are recorded where they are done. */
  constructor(audit: AuditLog, namespace: string) {
    this.audit = audit;
    this.ownAccounts = `system:serviceaccount:${namespace}:`;
  }

  /**
   * Looks at the spec, once for each change of it. What the operator and the gateway changed is left out: they record it where they do it.
   * @param observed - the generation that the status tells of.
   * @returns who changed it, and whether the object is new; undefined when it is as it was.
   */
  changeOf(object: Stored<KubeObject>, observed: number | undefined): SpecChange | undefined {
    const { uid, generation = 0 } = object.metadata;
    const seen = Math.max(observed ?? 0, this.seen.get(uid) ?? 0);
    if (generation <= seen) return undefined;
    remember(this.seen, uid, generation, rememberedMax);
    const actor = whoChanged(object, seen);
    return actor.who.startsWith(this.ownAccounts) ? undefined : { actor, isNew: seen === 0 };
  }

  /** Notes that the operator itself changed a spec, so that the change is nobody else's. */
  noteOwnChange(before: Stored<KubeObject>, after: Stored<KubeObject>): void {
    const { uid, generation = 0 } = before.metadata;
    const isOnlyOurs = after.metadata.generation === generation + 1;
    if (isOnlyOurs && this.seen.get(uid) === generation) remember(this.seen, uid, generation + 1, rememberedMax);
  }

  /** Records what somebody decided by a change of the spec. */
  recordChange(record: AuditRecord): void {
    this.audit.record(record);
  }

  /**
   * Records what was decided on an object, unless it is what was decided last.
   * @param note - said with it. It makes no other decision of it: a look at a status that lags behind knows less of who it was.
   */
  record({ metadata }: Stored<KubeObject>, record: AuditRecord, note?: string): void {
    const key = `${metadata.uid} ${record.what} ${record.id ?? ''}`;
    const decision = `${record.why} ${record.message ?? ''}`;
    if (this.last.get(key) === decision) return;
    remember(this.last, key, decision, rememberedMax);
    this.audit.record({ ...record, message: sentences(record.message, note) });
  }
}

/** Sentences in one message; undefined when there is none. */
export function sentences(...parts: readonly (string | undefined)[]): string | undefined {
  const told = parts.filter((part) => part !== undefined && part !== '');
  return told.length === 0 ? undefined : told.join(' ');
}
