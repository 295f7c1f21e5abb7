import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Stored } from '#runtime/types.ts';

/** The last signed state of a virtual organization. */
export interface FinalState {
  /** Number of the state; no later one follows. */
  readonly epoch: number;
  /** Digest of the signed state, `sha256:` and 64 hexadecimal digits. */
  readonly stateDigest: string;
}

/** What a receipt says: what there was of a virtual organization on a site, and is gone. */
export interface ReceiptClaims {
  /** Name, uid and genesis digest of the virtual organization. */
  readonly vo: { readonly name: string; readonly uid: string; readonly genesis?: string | undefined };
  /** The site that signs. */
  readonly site: string;
  /** Number and digest of the final signed state. */
  readonly epoch: number;
  readonly stateDigest: string;
  /** When the dissolution began and when nothing was left, RFC 3339. */
  readonly startedTime: string;
  readonly completedTime: string;
  /** Objects that are gone, by kind. */
  readonly removed: readonly { readonly resource: string; readonly count: number }[];
  /** Whether volumes were erased, or set aside for the owner of the site. */
  readonly data: 'Erase' | 'Export';
  /** Volumes by name; at most 32 are named. Of Volumes of ours also what became of each, and where files that stay are found. */
  readonly volumes: readonly {
    readonly name: string;
    readonly claim: string;
    readonly size: string;
    readonly outcome?: 'Erased' | 'Retained' | undefined;
    readonly location?: string | undefined;
  }[];
  /** Slices of ids that are retired for good. */
  readonly slices: readonly number[];
}

/**
 * The keys of virtual organizations, as far as their end needs them. Every method may be repeated at any time, also by another process after
 * a crash, and has the same effect then.
 */
export interface VoAuthority {
  /**
   * Publishes the final state: no credential of the virtual organization holds any longer, and none is given out.
   * @returns undefined when it has no key here, so that nothing was ever signed and nothing can be.
   */
  revoke(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<FinalState | undefined>;
  /**
   * Signs a receipt with the root key, as a compact JWS of type `vo-receipt+jwt` that carries the public key besides (`jwk`).
   * @throws when the keys are gone.
   */
  signReceipt(vo: Stored<VirtualOrganization>, claims: ReceiptClaims, signal: AbortSignal): Promise<string>;
  /** Destroys the keys. Does nothing when there are none. */
  forget(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<void>;
}
