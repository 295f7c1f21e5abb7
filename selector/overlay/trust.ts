import { sign, verify, type KeyObject } from 'node:crypto';
import type { Borders } from './borders.ts';
import { checkAttributes } from '#proto/selector/attributes.ts';
import { signedBytes, type Descriptor } from './descriptor.ts';

/** Signs for the node's own site. */
export interface Signer {
  readonly site: string;
  /** @param bytes - makes what is to be signed; a signer of a simulation never calls it. */
  sign(bytes: () => Uint8Array): Uint8Array;
}

/** Says whether a site said something. */
export interface Verifier {
  /** Whether the descriptor is signed by its own site and that site is trusted. */
  verifyDescriptor(descriptor: Descriptor): boolean;
  verifyBorders(borders: Borders): boolean;
}

/** Ed25519 (RFC 8032) with the site's private key. */
export class SiteSigner implements Signer {
  readonly site: string;
  private readonly key: KeyObject;

  constructor(site: string, privateKey: KeyObject) {
    this.site = site;
    this.key = privateKey;
  }

  sign(bytes: () => Uint8Array): Uint8Array {
    return sign(null, bytes(), this.key);
  }
}

/**
 * Signs for the own site, and knows what it has signed itself: members of one process hand each other descriptors as
 * they are, and need no proof of what this process has just said. Everybody else's word is checked.
 */
export class OwnWord implements Signer, Verifier {
  readonly site: string;
  private readonly signer: Signer;
  private readonly verifier: Verifier;
  private readonly own = new WeakSet<Uint8Array>();

  constructor(signer: Signer, verifier: Verifier) {
    this.site = signer.site;
    this.signer = signer;
    this.verifier = verifier;
  }

  sign(bytes: () => Uint8Array): Uint8Array {
    const signature = this.signer.sign(bytes);
    this.own.add(signature);
    return signature;
  }

  verifyDescriptor(descriptor: Descriptor): boolean {
    return this.own.has(descriptor.signature) || this.verifier.verifyDescriptor(descriptor);
  }

  verifyBorders(borders: Borders): boolean {
    return this.own.has(borders.signature) || this.verifier.verifyBorders(borders);
  }
}

/**
 * The public keys of the sites whose word counts. Descriptors already verified are remembered by signature, at most
 * `cacheMax`, since gossip brings the same one many times.
 */
export class TrustSet implements Verifier {
  private readonly keys = new Map<string, KeyObject>();
  private readonly verified = new Set<string>();
  private readonly cacheMax: number;

  constructor(keys: Iterable<readonly [site: string, publicKey: KeyObject]>, cacheMax = 2_048) {
    for (const [site, key] of keys) this.keys.set(site, key);
    this.cacheMax = cacheMax;
  }

  /** Replaces a site's key, or drops the site with `undefined`; what it signed before no longer counts. */
  setKey(site: string, key: KeyObject | undefined): void {
    if (key === undefined) this.keys.delete(site);
    else this.keys.set(site, key);
    this.verified.clear();
  }

  verifyDescriptor(descriptor: Descriptor): boolean {
    const key = this.keys.get(descriptor.profile.site);
    if (key === undefined || descriptor.signature.length !== 64) return false;
    const bytes = signedBytes(descriptor);
    const name = `${Buffer.from(descriptor.signature).toString('base64')}${Buffer.from(bytes).toString('latin1')}`;
    if (this.verified.has(name)) return true;
    try {
      checkAttributes(descriptor.profile.attributes);
    } catch {
      return false;
    }
    if (!verify(null, bytes, key, descriptor.signature)) return false;
    this.verified.add(name);
    if (this.verified.size > this.cacheMax) {
      const [first] = this.verified;
      if (first !== undefined) this.verified.delete(first);
    }
    return true;
  }

  verifyBorders(borders: Borders): boolean {
    const key = this.keys.get(borders.site);
    return (
      key !== undefined &&
      borders.signature.length === 64 &&
      verify(null, borders.signedBytes(), key, borders.signature)
    );
  }
}
