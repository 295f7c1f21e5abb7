import type { XCap } from '#proto/generated/xtreemfs/global-types.ts';

/** Vouchers that one file may have in use at a time; the oldest go first. */
const vouchersMax = 1024;

/**
 * The quota vouchers seen for one file: how far it may grow (protocol reference, 10.2). The limit in force is that of
 * the voucher with the newest expire time.
 */
export class FileVouchers {
  private readonly sizes = new Map<string, { expireTimeMs: number; voucherSize: number }>();

  /** Bytes that the file may reach; undefined when no quota applies. */
  limit(): number | undefined {
    let newest: { expireTimeMs: number; voucherSize: number } | undefined;
    for (const voucher of this.sizes.values()) {
      if (newest === undefined || voucher.expireTimeMs > newest.expireTimeMs) newest = voucher;
    }
    return newest?.voucherSize;
  }

  /** Notes the voucher of a capability; without one nothing happens. */
  register(xcap: XCap): void {
    if (xcap.voucherSize === 0) return;
    const key = `${xcap.expireTimeMs}.${xcap.clientIdentity}`;
    this.sizes.set(key, { expireTimeMs: xcap.expireTimeMs, voucherSize: xcap.voucherSize });
    if (this.sizes.size <= vouchersMax) return;
    const oldest = this.sizes.keys().next();
    if (oldest.done !== true) this.sizes.delete(oldest.value);
  }

  /** Forgets finalized vouchers. */
  forget(expireTimesMs: ReadonlySet<number>): void {
    for (const [key, { expireTimeMs }] of this.sizes) if (expireTimesMs.has(expireTimeMs)) this.sizes.delete(key);
  }
}
