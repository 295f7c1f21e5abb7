import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { Clock, Timer } from '#common/clock.ts';
import { InvalidInputError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Scheme } from './address.ts';
import { holderOf } from './peer.ts';

/** What a handshake needs, on either side. */
export type HandshakeSettings = SecureContextOptions & {
  readonly requestCert?: boolean;
  readonly rejectUnauthorized: boolean;
  readonly servername?: string;
  readonly checkServerIdentity?: () => undefined;
};

/** Where a key, a certificate and trust anchors are; PEM files, or one PKCS #12 file in place of the first two. */
export interface TlsFiles {
  readonly certificatePath?: string | undefined;
  readonly privateKeyPath?: string | undefined;
  readonly pkcs12Path?: string | undefined;
  readonly passphrase?: string | undefined;
  /** Trust anchors in PEM: peers have to show a certificate that one of these vouches for. */
  readonly trustedPath: string;
  /**
   * Whether a server's certificate must name the host that was dialled. Upstream's clients do not look, and grid
   * certificates often name `host/…`; off by default for `pbrpcg` only.
   */
  readonly checkHostName?: boolean;
  /** Oldest version spoken. Default TLSv1.2. */
  readonly minVersion?: 'TLSv1.2' | 'TLSv1.3';
}

const reloadMs = 30_000;

/** Keys and certificates of one service, read again when the files change (cert-manager renews them). */
export class TlsMaterial {
  private readonly files: TlsFiles;
  private readonly logger: Logger;
  private readonly listeners = new Set<() => void>();
  private context: SecureContextOptions;
  private ownHolder: string;
  private stamp: string;
  private readonly clock: Clock;
  private timer: Timer | undefined;

  /** @throws {InvalidInputError} when a file cannot be read or key and certificate do not belong together. */
  constructor(files: TlsFiles, deps: { readonly clock: Clock; readonly logger: Logger }) {
    this.files = files;
    this.logger = deps.logger;
    this.clock = deps.clock;
    this.stamp = this.stampFiles();
    this.context = loadContext(files);
    this.ownHolder = ownHolderOf(this.context);
    this.watch();
  }

  /** What peers call the holder of this certificate (`PeerCertificate.holder`). */
  get holder(): string {
    return this.ownHolder;
  }

  /** Calls `fn` after each renewal. */
  onRenewed(fn: () => void): void {
    this.listeners.add(fn);
  }

  /** Stops looking for renewed files. */
  close(): void {
    this.timer?.cancel();
  }

  /** Options of a listening side: a client certificate is asked for and must be valid. */
  serverOptions(scheme: Scheme): HandshakeSettings {
    return { ...this.context, ...this.versions(scheme), requestCert: true, rejectUnauthorized: true };
  }

  /** Options of a dialling side. */
  clientOptions(scheme: Scheme): HandshakeSettings {
    const checkHostName = this.files.checkHostName ?? scheme !== 'pbrpcg';
    return {
      ...this.context,
      ...this.versions(scheme),
      rejectUnauthorized: true,
      ...(checkHostName ? {} : { checkServerIdentity: () => undefined }),
    };
  }

  /** Grid SSL must not speak TLS 1.3: its session tickets would arrive among plain frames. */
  private versions(scheme: Scheme): Pick<SecureContextOptions, 'minVersion' | 'maxVersion'> {
    if (scheme === 'pbrpcg') return { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' };
    return { minVersion: this.files.minVersion ?? 'TLSv1.2' };
  }

  private watch(): void {
    this.timer = this.clock.after(
      reloadMs,
      () => {
        this.reload();
        this.watch();
      },
      { unref: true },
    );
  }

  private reload(): void {
    try {
      const stamp = this.stampFiles();
      if (stamp === this.stamp) return;
      this.context = loadContext(this.files);
      this.ownHolder = ownHolderOf(this.context);
      this.stamp = stamp;
      for (const listener of this.listeners) listener();
      this.logger.info('Took renewed certificates');
    } catch (error) {
      this.logger.warn('Keeping the old certificates: the new ones cannot be read', { err: error });
    }
  }

  private stampFiles(): string {
    const { certificatePath, privateKeyPath, pkcs12Path, trustedPath } = this.files;
    const paths = [certificatePath, privateKeyPath, pkcs12Path, trustedPath].filter((path) => path !== undefined);
    return paths
      .map((path) => {
        const { mtimeMs, size, ino } = statOf(path);
        return `${path}:${mtimeMs}:${size}:${ino}`;
      })
      .join('\n');
  }
}

function statOf(path: string): { mtimeMs: number; size: number; ino: number } {
  try {
    return statSync(path);
  } catch (error) {
    throw new InvalidInputError('TLS files', `${path} cannot be read; name a PEM or PKCS #12 file`, { cause: error });
  }
}

function loadContext(files: TlsFiles): SecureContextOptions {
  const { certificatePath, privateKeyPath, pkcs12Path, passphrase, trustedPath } = files;
  const options: SecureContextOptions = { ca: readFileSync(trustedPath) };
  if (pkcs12Path !== undefined) options.pfx = readFileSync(pkcs12Path);
  if (certificatePath !== undefined) options.cert = readFileSync(certificatePath);
  if (privateKeyPath !== undefined) options.key = readFileSync(privateKeyPath);
  if (passphrase !== undefined) options.passphrase = passphrase;
  if (options.pfx === undefined && (options.cert === undefined || options.key === undefined)) {
    throw new InvalidInputError('TLS files', 'name a certificate and a private key, or a PKCS #12 file');
  }
  try {
    createSecureContext(options);
  } catch (error) {
    const names = [certificatePath, privateKeyPath, pkcs12Path, trustedPath].filter((path) => path !== undefined);
    throw new InvalidInputError('TLS files', `${names.join(', ')} do not make a usable identity`, { cause: error });
  }
  return options;
}

function ownHolderOf(context: SecureContextOptions): string {
  const { cert } = context;
  if (typeof cert === 'string' || Buffer.isBuffer(cert)) return holderOf(new X509Certificate(cert));
  // Node opens PKCS #12 files only inside a context, which gives the certificate back as DER.
  const opened = createSecureContext(context).context as { getCertificate(): Buffer };
  return holderOf(new X509Certificate(opened.getCertificate()));
}
