import { fuseMajor, fuseMinor, fuseMinorMin, InitFlag, InitFlag2, pageBytes } from './abi.ts';

/**
 * How much the kernel may trust what it was told, from least to most:
 * - `strict`: every name, attribute and open is asked again; page contents are dropped when the file changed.
 * - `close-to-open`: names and attributes are trusted for a time; opening a file asks again, and what was written is
 *   at the servers when close(2) returns.
 * - `exclusive`: this mount is the only one that changes the volume: the kernel also keeps written pages and sends
 *   them later, in large pieces.
 */
export const consistencyModes = ['strict', 'close-to-open', 'exclusive'] as const;
export type ConsistencyMode = (typeof consistencyModes)[number];

export interface NegotiationOptions {
  readonly consistency: ConsistencyMode;
  /** Largest WRITE and READ; a multiple of the page size, at most 1 MiB (the kernel's own limit of 256 pages). */
  readonly transferBytes: number;
  /** How many read-aheads and write-backs the kernel may have under way. */
  readonly maxBackground: number;
  /** Grain of the file system's times. */
  readonly timeGranularityNs: number;
  /** Locks reach the file system; otherwise the kernel keeps them for this mount alone. */
  readonly remoteLocks: boolean;
  /** The kernel checks POSIX ACLs, which the file system keeps in `system.posix_acl_*`. */
  readonly posixAcl: boolean;
}

export const defaultNegotiation: NegotiationOptions = {
  consistency: 'close-to-open',
  transferBytes: 1 << 20,
  maxBackground: 64,
  timeGranularityNs: 1,
  remoteLocks: true,
  posixAcl: false,
};

/** What the kernel offers in INIT. */
export interface InitOffer {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  readonly flags2: number;
}

/** What was agreed on. */
export interface Agreement {
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  readonly flags2: number;
  readonly maxWriteBytes: number;
  readonly maxPages: number;
  readonly maxBackground: number;
  readonly timeGranularityNs: number;
  /** The kernel can send again what a dead process had read (FUSE_NOTIFY_RESEND). */
  readonly canResend: boolean;
  /** Written pages stay in the kernel, which then owns size and modification time of open files. */
  readonly hasWriteback: boolean;
}

/** Thrown when the kernel's protocol is one that can't be spoken. */
export class ProtocolVersionError extends Error {
  override readonly name = 'ProtocolVersionError';
}

/**
 * Chooses the answer to INIT: what is wanted for the consistency mode, and offered.
 * @throws {ProtocolVersionError} for a kernel older than 5.4 (7.31), or of another major version.
 */
export function negotiate(offer: InitOffer, options: NegotiationOptions): Agreement {
  if (offer.major !== fuseMajor || offer.minor < fuseMinorMin) {
    throw new ProtocolVersionError(
      `the kernel speaks FUSE ${offer.major}.${offer.minor}; needed is 7.${fuseMinorMin} or later (Linux 5.4)`,
    );
  }
  const flags = wantedFlags(options) & offer.flags;
  const flags2 = (flags & InitFlag.INIT_EXT) === 0 ? 0 : wantedFlags2() & offer.flags2;
  const hasPages = (flags & InitFlag.MAX_PAGES) !== 0;
  const maxPages = hasPages ? Math.min(256, Math.max(1, Math.floor(options.transferBytes / pageBytes))) : 32;
  return {
    minor: Math.min(offer.minor, fuseMinor),
    maxReadahead: offer.maxReadahead,
    flags,
    flags2,
    maxWriteBytes: maxPages * pageBytes,
    maxPages,
    maxBackground: options.maxBackground,
    timeGranularityNs: options.timeGranularityNs,
    canResend: (flags2 & InitFlag2.HAS_RESEND) !== 0,
    hasWriteback: (flags & InitFlag.WRITEBACK_CACHE) !== 0,
  };
}

function wantedFlags(options: NegotiationOptions): number {
  let flags =
    InitFlag.ASYNC_READ |
    InitFlag.ATOMIC_O_TRUNC |
    InitFlag.BIG_WRITES |
    InitFlag.DO_READDIRPLUS |
    InitFlag.READDIRPLUS_AUTO |
    InitFlag.ASYNC_DIO |
    InitFlag.PARALLEL_DIROPS |
    InitFlag.ABORT_ERROR |
    InitFlag.MAX_PAGES |
    InitFlag.HANDLE_KILLPRIV_V2 |
    InitFlag.SETXATTR_EXT |
    InitFlag.INIT_EXT;
  if (options.remoteLocks) flags |= InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS;
  if (options.posixAcl) flags |= InitFlag.POSIX_ACL | InitFlag.DONT_MASK;
  switch (options.consistency) {
    case 'strict':
      return flags | InitFlag.AUTO_INVAL_DATA;
    case 'close-to-open':
      // The kernel drops its pages when the size is another: the last page of a file that grew ends in zeros.
      return flags | InitFlag.CACHE_SYMLINKS;
    case 'exclusive':
      return flags | InitFlag.EXPLICIT_INVAL_DATA | InitFlag.CACHE_SYMLINKS | InitFlag.WRITEBACK_CACHE;
  }
}

function wantedFlags2(): number {
  return InitFlag2.HAS_EXPIRE_ONLY | InitFlag2.DIRECT_IO_ALLOW_MMAP | InitFlag2.HAS_RESEND;
}
