import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Stored } from '#runtime/types.ts';
import type { FinalState, ReceiptClaims, VoAuthority } from '../vo-authority.ts';

/** Keys of virtual organizations in memory, for tests. Passes the same suite as the real one. */
export class MemoryAuthority implements VoAuthority {
  private readonly keys = new Map<string, { readonly root: KeyObject; readonly jwk: object; final?: FinalState }>();

  /** Gives a virtual organization its root key, as being set up does. */
  found(vo: Stored<VirtualOrganization>): void {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.keys.set(vo.metadata.uid, { root: privateKey, jwk: publicKey.export({ format: 'jwk' }) });
  }

  async revoke(vo: Stored<VirtualOrganization>): Promise<FinalState | undefined> {
    const held = this.keys.get(vo.metadata.uid);
    if (held === undefined) return Promise.resolve(undefined);
    const stateDigest = `sha256:${createHash('sha256').update(`${vo.metadata.uid} Dissolved`).digest('hex')}`;
    held.final ??= { epoch: (vo.status?.epoch ?? 0) + 1, stateDigest };
    return Promise.resolve(held.final);
  }

  async signReceipt(vo: Stored<VirtualOrganization>, claims: ReceiptClaims): Promise<string> {
    const held = this.keys.get(vo.metadata.uid);
    if (held === undefined) throw new Error(`The keys of VirtualOrganization ${vo.metadata.name} are gone`);
    const encode = (part: unknown): string => Buffer.from(JSON.stringify(part)).toString('base64url');
    const text = `${encode({ alg: 'ES256', typ: 'vo-receipt+jwt' })}.${encode({ ...claims, jwk: held.jwk })}`;
    const signature = sign('sha256', Buffer.from(text), { key: held.root, dsaEncoding: 'ieee-p1363' });
    return Promise.resolve(`${text}.${signature.toString('base64url')}`);
  }

  async forget(vo: Stored<VirtualOrganization>): Promise<void> {
    this.keys.delete(vo.metadata.uid);
    return Promise.resolve();
  }
}
