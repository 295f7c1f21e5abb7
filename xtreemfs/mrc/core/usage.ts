import { refuse } from './errno.ts';
import { voucherKey, vouchersPrefix, readU48 } from './keys.ts';
import type { Inode } from './records.ts';
import { inodeFlags } from './records.ts';
import type { Tx } from './tx.ts';
import type { Volume } from './volume.ts';

/**
 * Space accounting and vouchers (protocol reference, section 10.2). A file's logical size counts once, however many
 * replicas it has. «Blocked» is what open vouchers allow beyond the present size; the file's vouchers overlap, so
 * it is the highest limit minus the size.
 */
interface Voucher {
  readonly expireMs: number;
  readonly limitBytes: number;
}

/** How long after its end a voucher that nobody cleared is still counted, milliseconds: its holder may be renewing. */
const voucherGraceMs = 120_000;

function vouchersOf(tx: Tx, inode: Inode): Voucher[] {
  if ((inode.flags & inodeFlags.hasVouchers) === 0) return [];
  const prefix = vouchersPrefix(inode.volume, inode.ino);
  return tx.scan({ prefix, limit: Number.MAX_SAFE_INTEGER }).map(({ key, value }) => ({
    expireMs: readU48(key, prefix.length),
    limitBytes: Buffer.from(value).readDoubleLE(),
  }));
}

function blockedBytes(vouchers: readonly Voucher[], sizeBytes: number): number {
  return vouchers.reduce((most, voucher) => Math.max(most, voucher.limitBytes - sizeBytes), 0);
}

function account(tx: Tx, inode: Inode, used: number, blocked: number): void {
  if (used === 0 && blocked === 0) return;
  const counters = tx.counters(inode.volume);
  for (const record of [counters, tx.quota(inode.volume, 'u', inode.user), tx.quota(inode.volume, 'g', inode.group)]) {
    record.usedBytes = Math.max(0, record.usedBytes + used);
    record.blockedBytes = Math.max(0, record.blockedBytes + blocked);
  }
}

/** Sets a file's size and accounts for it. */
export function resize(tx: Tx, inode: Inode, sizeBytes: number): void {
  const vouchers = vouchersOf(tx, inode);
  const blocked = blockedBytes(vouchers, sizeBytes) - blockedBytes(vouchers, inode.size);
  account(tx, inode, sizeBytes - inode.size, blocked);
  inode.size = sizeBytes;
  tx.touch(inode);
}

/** Gives a file to another owner or group, with what it uses. */
export function changeOwner(tx: Tx, inode: Inode, user: string, group: string): void {
  const blocked = blockedBytes(vouchersOf(tx, inode), inode.size);
  const counts = inode.size > 0 || blocked > 0;
  if (counts) account(tx, inode, -inode.size, -blocked);
  inode.user = user;
  inode.group = group;
  if (counts) account(tx, inode, inode.size, blocked);
  tx.touch(inode);
}

/** Takes a file that lost its last name out of the accounts. */
export function releaseFile(tx: Tx, inode: Inode): void {
  clearVouchers(tx, inode, undefined);
  account(tx, inode, -inode.size, 0);
}

/**
 * Space that the file's owner, group and volume still have, bytes; undefined when no quota holds.
 * A quota of a user or group goes before the volume's default for them.
 */
export function freeQuotaBytes(tx: Tx, volume: Volume, inode: Inode): number | undefined {
  const user = tx.quota(volume.number, 'u', inode.user);
  const group = tx.quota(volume.number, 'g', inode.group);
  const limits: [number, { usedBytes: number; blockedBytes: number }][] = [
    [volume.quotaBytes, tx.readCounters(volume.number)],
    [user.quotaBytes > 0 ? user.quotaBytes : volume.defaultUserQuotaBytes, user],
    [group.quotaBytes > 0 ? group.quotaBytes : volume.defaultGroupQuotaBytes, group],
  ];
  const free = limits
    .filter(([quota]) => quota > 0)
    .map(([quota, use]) => Math.max(0, quota - use.usedBytes - use.blockedBytes));
  return free.length === 0 ? undefined : Math.min(...free);
}

/**
 * Reserves space for a writer: the file may grow to the returned size. 0 means that no quota holds.
 * @param expireMs - the capability's end, which names the voucher.
 * @throws {PosixError} ENOSPC when nothing is left.
 */
export function grantVoucher(tx: Tx, volume: Volume, inode: Inode, expireMs: number): number {
  if (!hasQuotas(tx, volume, inode)) return 0;
  dropExpired(tx, inode);
  const free = freeQuotaBytes(tx, volume, inode);
  if (free === undefined) return 0;
  if (free === 0)
    refuse('ENOSPC', `The quota of volume ${volume.name}, of ${inode.user} or of ${inode.group} is used up`);
  const vouchers = vouchersOf(tx, inode);
  const before = blockedBytes(vouchers, inode.size);
  const granted = Math.min(volume.voucherBytes, free);
  const limit = inode.size + before + granted;
  putVoucher(tx, inode, expireMs, limit);
  account(tx, inode, 0, granted);
  return limit;
}

/** Carries a voucher over to a renewed capability without reserving more. */
export function keepVoucher(tx: Tx, inode: Inode, limitBytes: number, expireMs: number): void {
  if (limitBytes > 0 && (inode.flags & inodeFlags.hasVouchers) !== 0) putVoucher(tx, inode, expireMs, limitBytes);
}

function hasQuotas(tx: Tx, volume: Volume, inode: Inode): boolean {
  if (volume.quotaBytes > 0 || volume.defaultUserQuotaBytes > 0 || volume.defaultGroupQuotaBytes > 0) return true;
  return (
    tx.quota(volume.number, 'u', inode.user).quotaBytes > 0 || tx.quota(volume.number, 'g', inode.group).quotaBytes > 0
  );
}

function putVoucher(tx: Tx, inode: Inode, expireMs: number, limitBytes: number): void {
  const value = Buffer.alloc(8);
  value.writeDoubleLE(limitBytes);
  tx.put(voucherKey(inode.volume, inode.ino, expireMs), value);
  if ((inode.flags & inodeFlags.hasVouchers) !== 0) return;
  inode.flags |= inodeFlags.hasVouchers;
  tx.touch(inode);
}

/** Ends vouchers and frees what they reserved. @param expireMs - which ones; undefined for all of the file. */
export function clearVouchers(tx: Tx, inode: Inode, expireMs: readonly number[] | undefined): void {
  const vouchers = vouchersOf(tx, inode);
  if (vouchers.length === 0) return;
  const gone = new Set(expireMs ?? vouchers.map((voucher) => voucher.expireMs));
  const left = vouchers.filter((voucher) => !gone.has(voucher.expireMs));
  for (const voucher of vouchers) {
    if (gone.has(voucher.expireMs)) tx.remove(voucherKey(inode.volume, inode.ino, voucher.expireMs));
  }
  account(tx, inode, 0, blockedBytes(left, inode.size) - blockedBytes(vouchers, inode.size));
  if (left.length === 0) {
    inode.flags &= ~inodeFlags.hasVouchers;
    tx.touch(inode);
  }
}

function dropExpired(tx: Tx, inode: Inode): void {
  const ended = vouchersOf(tx, inode).filter((voucher) => voucher.expireMs + voucherGraceMs < tx.nowMs);
  if (ended.length > 0)
    clearVouchers(
      tx,
      inode,
      ended.map((voucher) => voucher.expireMs),
    );
}
