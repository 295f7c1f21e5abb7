/** The end of a virtual organization on this site, step by step; each may be repeated, and a crash between or in them costs nothing. */
import type { IdentitySlice } from '#crds/identity-slice.ts';
import { identitySlices } from '#crds/identity-slice.ts';
import type { dissolved } from '#crds/tenancy.ts';
import { type VirtualOrganization, type VirtualOrganizationStatus } from '#crds/virtual-organization.ts';
import type { FinalState, ReceiptClaims, VoAuthority } from '#operator/identity/vo-authority.ts';
import type { Client, Lister } from '#runtime/contracts.ts';
import { formatTime } from '#runtime/conditions.ts';
import { isDeleting, keyOf, type Stored } from '#runtime/types.ts';
import type { TenancyWriter } from './tenancy-writer.ts';
import type { Workload } from './workload.ts';

/** Annotation of a retired slice: the receipt of its virtual organization, which outlives the object of that. */
const receiptAnnotation = 'xtreemos.io/dissolution-receipt';

/** How often a step that waits looks again, milliseconds. */
const pollMs = 1000;

type Progress = NonNullable<VirtualOrganizationStatus['dissolution']>;

/** Where a dissolution stands. */
export interface DissolutionReport {
  readonly reason: keyof typeof dissolved.reasons;
  readonly message: string;
  /** What to note in the status before the next step. */
  readonly progress: Progress;
  /** Set once nothing is left and the receipt is signed; also when there was nothing to sign. */
  readonly isComplete: boolean;
  readonly receipt: string | undefined;
  readonly requeueAfterMs: number | undefined;
}

/** Changes a spec, unless the object is newer than the one at hand. @throws {ConflictError} */
export type PatchSpec = (
  vo: Stored<VirtualOrganization>,
  spec: Partial<VirtualOrganization['spec']>,
  signal: AbortSignal,
) => Promise<void>;

/** What a dissolution works with. */
export interface DissolutionParts {
  readonly client: Client;
  readonly slices: Lister<IdentitySlice>;
  readonly writer: TenancyWriter;
  readonly workload: Workload;
  readonly authority: VoAuthority;
  readonly localSite: string;
  readonly patchSpec: PatchSpec;
}

/** Index of slices: the uid of the virtual organization that owns them. */
export const sliceOwnerIndex = 'dissolution/owner';

/** Carries out dissolutions. Keeps nothing in memory: what it must remember is in the status, written before it is needed. */
export class Dissolution {
  private readonly parts: DissolutionParts;

  constructor(parts: DissolutionParts) {
    this.parts = parts;
  }

  /**
   * Goes one stretch of the way, as far as it can without waiting.
   * @param receipt - the receipt signed earlier, if any.
   * @param now - milliseconds since the Unix epoch.
   */
  async advance(
    vo: Stored<VirtualOrganization>,
    receipt: string | undefined,
    now: number,
    signal: AbortSignal,
  ): Promise<DissolutionReport> {
    const noted = vo.status?.dissolution;
    if (noted?.startedTime === undefined) return this.begin(vo, now, signal);
    if (noted.completedTime !== undefined) return this.finish(vo, noted, receipt, signal);
    await this.freeze(vo, signal);
    const { authority, workload, writer } = this.parts;

    const final = await authority.revoke(vo, signal);
    await workload.removeAccounts(vo, signal);
    const progress = final === undefined ? noted : { ...noted, ...final };
    const running = await workload.endPods(vo, signal);
    if (running.length > 0) {
      return waiting('Draining', `Pods are being ended, ${running.slice(0, 3).join(', ')} among them.`, progress);
    }
    const data = await workload.clearData(vo, noted.data ?? 'Export', signal);
    if (data !== undefined) return waiting('ClearingData', data, progress);
    const rest = await writer.remove(vo, signal);
    if (rest !== undefined) return waiting('RemovingTenancy', rest, progress);
    await this.retireSlices(vo, {}, signal);
    return this.sign(vo, progress, final, now, signal);
  }

  /** Notes what there is before anything is touched, so that the receipt can tell it at the end. */
  private async begin(vo: Stored<VirtualOrganization>, now: number, signal: AbortSignal): Promise<DissolutionReport> {
    // Nothing is destroyed unless somebody said so; a mere delete doesn't.
    const data = vo.spec.dissolution?.data ?? 'Export';
    const { inventory, volumes } = await this.parts.workload.takeInventory(vo, data, signal);
    const progress: Progress = {
      startedTime: formatTime(now),
      data,
      inventory: [...inventory],
      volumes: [...volumes],
    };
    return waiting('Revoking', 'Its credentials are being revoked.', progress, 1);
  }

  /** From here on the spec says it too, where everything that starts work looks. */
  private async freeze(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<void> {
    // An object that is being deleted may lack the approval that Dissolved asks for: the owner of the site needs none.
    const state = isDeleting(vo) ? 'Frozen' : 'Dissolved';
    const isDone = vo.spec.state === 'Dissolved' || (isDeleting(vo) && vo.spec.state !== 'Operational');
    if (!isDone) await this.parts.patchSpec(vo, { state }, signal);
    await this.parts.writer.close(vo, signal);
  }

  private async retireSlices(
    vo: Stored<VirtualOrganization>,
    annotations: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<void> {
    for (const slice of this.slicesOf(vo)) {
      const isNoted = Object.entries(annotations).every(([key, value]) => slice.metadata.annotations?.[key] === value);
      if (slice.spec.state === 'Retired' && isNoted) continue;
      const body = { metadata: { uid: slice.metadata.uid, annotations }, spec: { state: 'Retired' } };
      await this.parts.client.of(identitySlices).patch(keyOf(slice), { type: 'merge', body }, { signal });
    }
  }

  private slicesOf(vo: Stored<VirtualOrganization>): Stored<IdentitySlice>[] {
    return this.parts.slices.byIndex(sliceOwnerIndex, vo.metadata.uid);
  }

  private async sign(
    vo: Stored<VirtualOrganization>,
    progress: Progress,
    final: FinalState | undefined,
    now: number,
    signal: AbortSignal,
  ): Promise<DissolutionReport> {
    const completed = { ...progress, completedTime: formatTime(now) };
    // Without keys nothing was ever signed here, no credential given out, and there is nobody to sign.
    const receipt =
      final === undefined
        ? undefined
        : await this.parts.authority.signReceipt(vo, this.claims(vo, completed, final), signal);
    return {
      reason: 'Signing',
      message: 'The receipt is being stored.',
      progress: completed,
      isComplete: true,
      receipt,
      requeueAfterMs: 1,
    };
  }

  private claims(vo: Stored<VirtualOrganization>, progress: Progress, final: FinalState): ReceiptClaims {
    const { name, uid } = vo.metadata;
    return {
      vo: { name, uid, genesis: vo.status?.genesis },
      site: this.parts.localSite,
      ...final,
      startedTime: progress.startedTime ?? '',
      completedTime: progress.completedTime ?? '',
      removed: progress.inventory ?? [],
      data: progress.data ?? 'Export',
      volumes: progress.volumes ?? [],
      slices: this.slicesOf(vo)
        .map(({ spec }) => spec.number)
        .sort((a, b) => a - b),
    };
  }

  /** The receipt is stored: it goes onto the slices too, which outlive this object, and the keys are destroyed. */
  private async finish(
    vo: Stored<VirtualOrganization>,
    progress: Progress,
    receipt: string | undefined,
    signal: AbortSignal,
  ): Promise<DissolutionReport> {
    if (receipt !== undefined) await this.retireSlices(vo, { [receiptAnnotation]: receipt }, signal);
    await this.parts.authority.forget(vo, signal);
    const message = 'Nothing of it is left on this site; its ids are never used again.';
    return { reason: 'Complete', message, progress, isComplete: true, receipt, requeueAfterMs: undefined };
  }
}

function waiting(
  reason: DissolutionReport['reason'],
  message: string,
  progress: Progress,
  requeueAfterMs = pollMs,
): DissolutionReport {
  return { reason, message, progress, isComplete: false, receipt: undefined, requeueAfterMs };
}
