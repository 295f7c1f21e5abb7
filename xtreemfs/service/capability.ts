import {
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  sign,
  timingSafeEqual,
  verify,
  type KeyObject,
} from 'node:crypto';
import { InvalidInputError } from '#common/errors.ts';
import type { OsdFinalizeVouchersResponse, XCap, XLocSet } from '#proto/generated/xtreemfs/global-types.ts';

/** A capability before it is signed. */
export type UnsignedCapability = Omit<XCap, 'serverSignature'>;

/**
 * What a check of a capability says: `forged` when the signature is not ours over exactly these fields, `expired` when
 * it is, but its time is over.
 */
export type CapabilityVerdict = 'valid' | 'expired' | 'forged';

/** How capabilities and voucher answers are signed in one installation. */
export interface CapabilityKeyOptions {
  /**
   * Shared secrets of MRCs and OSDs. The first one signs, all of them verify: to change the secret, add the new one at
   * the end everywhere, then at the front, then take the old one away.
   */
  readonly secrets: readonly string[];
  /**
   * Upstream's form, MD5 over the fields without separators, for installations that have upstream servers. It is
   * weak: fields can be shifted into each other and several fields are not covered.
   */
  readonly useUpstreamForm?: boolean;
  /** PEM of an Ed25519 private key: the MRC signs capabilities with it, so that no OSD is able to make one. */
  readonly signingKeyPem?: string;
  /** PEMs of Ed25519 public keys. An OSD that has some accepts no capability signed with a shared secret. */
  readonly verifyKeyPems?: readonly string[];
}

/** A voucher answer before it is signed, and the expire times that it covers. */
export interface VoucherStatement {
  readonly osdUuid: string;
  readonly sizeInBytes: number;
  readonly truncateEpoch: number;
  /** `expire_time_ms` of the request, in its order. */
  readonly expireTimesMs: readonly number[];
  /** `expire_time_ms` of the capability in the request. */
  readonly capExpireTimeMs: number;
}

interface NamedKey {
  readonly id: string;
  readonly key: KeyObject;
}

const secretBytesMin = 16;
const cacheEntriesMax = 4096;

/**
 * Signs and checks capabilities (XCap) and voucher answers. A check always covers every field presented: nothing is
 * trusted because its signature was seen before (upstream caches signatures per open file and can be fooled by it).
 *
 * Form of our own signatures: `H1.<key id>.<base64url of HMAC-SHA-256>` or `E1.<key id>.<base64url of Ed25519>` over
 * all fields, each with its length before it. Protocol reference, section 4.
 */
export class CapabilityKeys {
  private readonly secrets: readonly NamedKey[];
  private readonly texts: readonly string[];
  private readonly useUpstreamForm: boolean;
  private readonly signingKey: NamedKey | undefined;
  private readonly verifyKeys: readonly NamedKey[];
  /** Ed25519 checks that held, by all bytes that they covered and the signature. */
  private readonly verified = new Set<string>();

  /** @throws {InvalidInputError} when there is no secret, one is too short, or a PEM is no Ed25519 key. */
  constructor(options: CapabilityKeyOptions) {
    this.useUpstreamForm = options.useUpstreamForm === true;
    this.texts = options.secrets;
    if (options.secrets.length === 0) throw new InvalidInputError('capabilitySecret', 'is missing: give one secret');
    for (const secret of options.secrets) {
      if (Buffer.byteLength(secret) < secretBytesMin && !this.useUpstreamForm) {
        throw new InvalidInputError('capabilitySecret', `is shorter than ${secretBytesMin} bytes: give a longer one`);
      }
    }
    this.secrets = options.secrets.map((secret) => {
      const key = createSecretKey(createHash('sha256').update(`xtreemfs capability key\0${secret}`).digest());
      return { id: keyId(key.export()), key };
    });
    this.signingKey =
      options.signingKeyPem === undefined ? undefined : readKey('capabilitySigningKey', options.signingKeyPem, true);
    this.verifyKeys = (options.verifyKeyPems ?? []).map((pem) => readKey('capabilityVerifyKeys', pem, false));
  }

  /** The capability with its signature. */
  sign(cap: UnsignedCapability): XCap {
    if (this.useUpstreamForm) {
      const serverSignature = upstreamSignature(cap, this.texts[0] ?? '');
      return { ...cap, holder: undefined, locationsSigned: undefined, serverSignature };
    }
    return { ...cap, serverSignature: this.signContent(capabilityContent(cap)) };
  }

  /** A file's locations with the signature that a capability with `locationsSigned` asks for. */
  signLocations(fileId: string, xlocs: XLocSet): XLocSet {
    if (this.useUpstreamForm) return xlocs;
    return { ...xlocs, serverSignature: this.signContent(locationsContent(fileId, xlocs)) };
  }

  /** Whether the MRC gave out these locations, in whatever order, for this file. */
  checkLocations(fileId: string, xlocs: XLocSet): boolean {
    return this.isContentSigned(locationsContent(fileId, xlocs), xlocs.serverSignature ?? '');
  }

  /**
   * What a server sends beside the capabilities of others that it passes on: proves to those who share the secret that
   * the peer with this certificate is one of them.
   * @param holder - of the certificate that the server shows to its peers.
   * @returns nothing among upstream's servers, whose capabilities have no holder.
   */
  relayProof(holder: string): Buffer | undefined {
    if (this.useUpstreamForm) return undefined;
    return Buffer.from(this.hmac(lengthPrefixed(['Relay', holder])));
  }

  /** Whether `proof` was made by a server of this installation for the peer with this certificate. */
  isRelay(holder: string, proof: Buffer): boolean {
    return this.isHmac(lengthPrefixed(['Relay', holder]), proof.toString('latin1'));
  }

  /**
   * Checks signature and time of a capability.
   * @param nowMs - global time, milliseconds.
   */
  check(cap: XCap, nowMs: number): CapabilityVerdict {
    if (!this.isSigned(cap)) return 'forged';
    return Math.floor(nowMs / 1000) > cap.expireTimeS ? 'expired' : 'valid';
  }

  /** The answer of an OSD to finalize_vouchers, with its signature. */
  signVouchers(statement: VoucherStatement): OsdFinalizeVouchersResponse {
    const { osdUuid, sizeInBytes, truncateEpoch } = statement;
    const serverSignature = this.useUpstreamForm
      ? upstreamVoucherSignature(statement, this.texts[0] ?? '')
      : this.hmac(voucherContent(statement));
    return { osdUuid, serverSignature, sizeInBytes, truncateEpoch };
  }

  /** Whether an OSD of this installation signed exactly this statement. */
  checkVouchers(statement: VoucherStatement, signature: string): boolean {
    if (this.useUpstreamForm) {
      return this.texts.some((secret) => isSame(upstreamVoucherSignature(statement, secret), signature));
    }
    return this.isHmac(voucherContent(statement), signature);
  }

  private isSigned(cap: XCap): boolean {
    if (this.useUpstreamForm) {
      return this.texts.some((secret) => isSame(upstreamSignature(cap, secret), cap.serverSignature));
    }
    return this.isContentSigned(capabilityContent(cap), cap.serverSignature);
  }

  private signContent(content: Buffer): string {
    if (this.signingKey === undefined) return this.hmac(content);
    return `E1.${this.signingKey.id}.${sign(null, content, this.signingKey.key).toString('base64url')}`;
  }

  private isContentSigned(content: Buffer, signature: string): boolean {
    if (this.verifyKeys.length === 0 && this.signingKey === undefined) return this.isHmac(content, signature);
    return this.isEdSigned(content, signature);
  }

  private hmac(content: Buffer): string {
    const key = this.secrets[0];
    return key === undefined ? '' : `H1.${key.id}.${createHmac('sha256', key.key).update(content).digest('base64url')}`;
  }

  private isHmac(content: Buffer, signature: string): boolean {
    const [form, id, mac] = signature.split('.', 3);
    if (form !== 'H1' || mac === undefined) return false;
    return this.secrets.some(
      (key) =>
        key.id === id &&
        isSame(`H1.${id}.${createHmac('sha256', key.key).update(content).digest('base64url')}`, signature),
    );
  }

  private isEdSigned(content: Buffer, signature: string): boolean {
    const [form, id, text] = signature.split('.', 3);
    if (form !== 'E1' || text === undefined || signature.length > 128) return false;
    const seen = `${content.toString('latin1')}\0${signature}`;
    if (this.verified.has(seen)) return true;
    const keys = this.signingKey === undefined ? this.verifyKeys : [...this.verifyKeys, this.signingKey];
    const bytes = Buffer.from(text, 'base64url');
    if (!keys.some((key) => key.id === id && verify(null, content, publicPart(key.key), bytes))) return false;
    if (this.verified.size >= cacheEntriesMax) this.verified.clear();
    this.verified.add(seen);
    return true;
  }
}

function publicPart(key: KeyObject): KeyObject {
  return key.type === 'private' ? createPublicKey(key) : key;
}

function readKey(field: string, pem: string, isPrivate: boolean): NamedKey {
  try {
    const key = isPrivate ? createPrivateKey(pem) : createPublicKey(pem);
    if (key.asymmetricKeyType !== 'ed25519')
      throw new TypeError(`it is ${key.asymmetricKeyType ?? 'of no known type'}`);
    return { id: keyId(publicPart(key).export({ type: 'spki', format: 'der' })), key };
  } catch (error) {
    const remedy = `openssl genpkey -algorithm ed25519${isPrivate ? '' : ', then openssl pkey -pubout'}`;
    throw new InvalidInputError(field, `is no Ed25519 ${isPrivate ? 'private' : 'public'} key in PEM (${remedy})`, {
      cause: error,
    });
  }
}

function keyId(bytes: Buffer): string {
  return createHash('sha256').update('xtreemfs key id').update(bytes).digest('hex').slice(0, 8);
}

/** Compares in a time that depends on the lengths only. */
function isSame(expected: string, presented: string): boolean {
  const [a, b] = [Buffer.from(expected), Buffer.from(presented)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Each part with its length (32 bits) before it, so that no two lists of parts give the same bytes. */
function lengthPrefixed(parts: readonly (string | number | boolean)[]): Buffer {
  const texts = parts.map((part) => Buffer.from(String(part), 'utf8'));
  const content = Buffer.allocUnsafe(texts.reduce((sum, text) => sum + 4 + text.length, 0));
  let at = 0;
  for (const text of texts) {
    at = content.writeUInt32BE(text.length, at);
    at += text.copy(content, at);
  }
  return content;
}

function capabilityContent(cap: UnsignedCapability): Buffer {
  const trace = cap.traceConfig;
  return lengthPrefixed([
    'XCap',
    cap.fileId,
    cap.accessMode,
    cap.clientIdentity,
    cap.expireTimeS,
    cap.expireTimeoutS,
    cap.replicateOnClose,
    cap.truncateEpoch,
    cap.snapConfig,
    cap.snapTimestamp,
    cap.voucherSize,
    cap.expireTimeMs,
    trace === undefined ? '' : trace.traceRequests,
    trace?.tracingPolicy ?? '',
    trace?.tracingPolicyConfig ?? '',
    ...(cap.holder === undefined ? [] : ['holder', cap.holder]),
    ...(cap.locationsSigned === undefined ? [] : ['locationsSigned', cap.locationsSigned]),
  ]);
}

/** Replicas in an order of their own: each client gets them sorted for it. Their flags change without a new view. */
function locationsContent(fileId: string, xlocs: XLocSet): Buffer {
  const replicas = xlocs.replicas
    .map(({ osdUuids, stripingPolicy: { type, stripeSize, width } }) =>
      [type, stripeSize, width, ...osdUuids].join(' '),
    )
    .sort();
  return lengthPrefixed(['XLocSet', fileId, xlocs.replicaUpdatePolicy, xlocs.version, replicas.length, ...replicas]);
}

function voucherContent(statement: VoucherStatement): Buffer {
  const times = [...new Set([...statement.expireTimesMs, statement.capExpireTimeMs])].sort((a, b) => a - b);
  return lengthPrefixed([
    'Vouchers',
    statement.osdUuid,
    statement.sizeInBytes,
    statement.truncateEpoch,
    times.length,
    ...times,
  ]);
}

function upstreamSignature(cap: UnsignedCapability, secret: string): string {
  const text = [
    cap.fileId,
    cap.accessMode,
    cap.expireTimeS,
    cap.truncateEpoch,
    cap.snapConfig,
    cap.snapTimestamp,
    cap.voucherSize,
    cap.expireTimeMs,
    secret,
  ].join('');
  return createHash('md5').update(text, 'utf8').digest('hex').toUpperCase();
}

function upstreamVoucherSignature(statement: VoucherStatement, secret: string): string {
  const times = javaHashSetOrder(statement.expireTimesMs, statement.capExpireTimeMs);
  const text = [statement.osdUuid, statement.sizeInBytes, statement.truncateEpoch, ...times, secret].join('');
  return createHash('md5').update(text, 'utf8').digest('hex').toUpperCase();
}

/**
 * The order in which a Java `HashSet<Long>` made of `values`, to which `last` was added, gives its elements: upstream's
 * voucher signature depends on it (protocol reference, 10.2).
 */
export function javaHashSetOrder(values: readonly number[], last: number): number[] {
  let size = 16;
  while (size < Math.floor(values.length / 0.75) + 1) size *= 2;
  const elements = [...new Set([...values, last])];
  while (elements.length > 0.75 * size) size *= 2;
  const buckets = new Map<number, number[]>();
  for (const element of elements) {
    const wide = BigInt.asUintN(64, BigInt(element));
    const hash = Number((wide ^ (wide >> 32n)) & 0xffff_ffffn);
    const bucket = (hash ^ (hash >>> 16)) & (size - 1);
    const members = buckets.get(bucket) ?? [];
    members.push(element);
    buckets.set(bucket, members);
  }
  return [...buckets.keys()].sort((a, b) => a - b).flatMap((bucket) => buckets.get(bucket) ?? []);
}
