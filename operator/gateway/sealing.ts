/** Things that the gateway gives away and gets back unread and unchanged: sealed with a key that all replicas share. */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

/** What a sealed thing is for; one made for another purpose doesn't open. */
export type SealPurpose = 'session-token' | 'session-record' | 'login-handle' | 'device-login' | 'device-consent';

const algorithm = 'aes-256-gcm';
const nonceBytes = 12;
const tagBytes = 16;
/** Bytes of the shared key. */
export const sealKeyBytes = 32;

/** AES-256-GCM with a key of its own for each purpose (HKDF-SHA-256). Nonces are random: far fewer than 2^32 are ever made with one key. */
export class Sealer {
  private readonly keys = new Map<SealPurpose, Buffer>();
  private readonly secret: Buffer;

  /** @throws {RangeError} unless the secret has {@link sealKeyBytes} bytes. */
  constructor(secret: Buffer) {
    if (secret.length !== sealKeyBytes) throw new RangeError(`the key has ${secret.length} bytes, not ${sealKeyBytes}`);
    this.secret = secret;
  }

  /** Base64url of nonce, ciphertext and tag. @param context - must be given again to open it, for example the name of a record. */
  seal(purpose: SealPurpose, content: object, context = ''): string {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv(algorithm, this.keyOf(purpose), nonce, { authTagLength: tagBytes });
    cipher.setAAD(Buffer.from(context));
    const sealed = Buffer.concat([nonce, cipher.update(JSON.stringify(content)), cipher.final(), cipher.getAuthTag()]);
    return sealed.toString('base64url');
  }

  /** What was sealed; undefined when it wasn't sealed by us for this purpose and context. */
  open(purpose: SealPurpose, sealed: string, context = ''): unknown {
    const bytes = Buffer.from(sealed, 'base64url');
    if (bytes.length < nonceBytes + tagBytes) return undefined;
    const nonce = bytes.subarray(0, nonceBytes);
    const decipher = createDecipheriv(algorithm, this.keyOf(purpose), nonce, { authTagLength: tagBytes });
    decipher.setAAD(Buffer.from(context));
    decipher.setAuthTag(bytes.subarray(bytes.length - tagBytes));
    try {
      const plain = Buffer.concat([
        decipher.update(bytes.subarray(nonceBytes, bytes.length - tagBytes)),
        decipher.final(),
      ]);
      return JSON.parse(plain.toString());
    } catch {
      return undefined;
    }
  }

  private keyOf(purpose: SealPurpose): Buffer {
    let key = this.keys.get(purpose);
    if (key === undefined) {
      key = Buffer.from(hkdfSync('sha256', this.secret, '', `xtreemos gateway ${purpose}`, 32));
      this.keys.set(purpose, key);
    }
    return key;
  }
}
