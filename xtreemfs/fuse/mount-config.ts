import type { Address, Scheme } from '../rpc/address.ts';
import type { TlsFiles } from '../rpc/tls.ts';
import type { ConsistencyMode } from './negotiation.ts';

/** Everything that a mount's process is told; plain data, since it crosses processes. */
export interface MountConfig {
  readonly dirs: readonly Address[];
  readonly scheme: Scheme;
  readonly tls?: TlsFiles;
  /** Relay through which all servers are reached; needs `tls`. */
  readonly relay?: Address;
  /** `name`, or `name@snapshot`. */
  readonly volumeName: string;
  readonly mountPoint: string;
  readonly consistency: ConsistencyMode;
  readonly metadataTtlMs: number;
  readonly readdirChunk: number;
  readonly asyncWrites: boolean;
  readonly dirtyBytesMax: number;
  /** Tries per call; 0: until it works. */
  readonly triesMax: number;
  readonly retryDelayMs: number;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly lingerMs: number;
  readonly readAheadBytes: number;
  readonly transferBytes: number;
  /** UUID that names this mount among all that lock files and open them. */
  readonly lockClient: string;
  /** The kernel checks access control lists; only for volumes whose policy is POSIX. */
  readonly posixAcl?: boolean;
  /**
   * Files in the form of passwd(5) and group(5) that alone say which ids there are: every other id, root's too, is nobody.
   * Without them this machine's own users are taken, and ids without a name are written in digits.
   */
  readonly issuedIds?: { readonly usersPath: string; readonly groupsPath: string };
  /** When the keeper dies, the mount stays, dead, for whoever mounts anew; otherwise it is unmounted. */
  readonly staysWithoutKeeper?: boolean;
  readonly logLevel: 'error' | 'warn' | 'info' | 'debug';
}

/** Descriptors that a worker inherits from its keeper. */
export const workerDescriptors = { fuse: 3, journalA: 4, journalB: 5, ipc: 6 } as const;

/** What keeper and worker say to each other. */
export interface KeeperMessage {
  readonly kind: 'config';
  readonly config: MountConfig;
}
export interface WorkerMessage {
  readonly kind: 'serving';
  readonly isResumed: boolean;
}
