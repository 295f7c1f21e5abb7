import { describe, expect, test } from '@jest/globals';
import { InitFlag, InitFlag2 } from './abi.ts';
import { consistencyModes, defaultNegotiation, negotiate, ProtocolVersionError } from './negotiation.ts';

const everything = { major: 7, minor: 45, maxReadahead: 131_072, flags: 0x7fff_ffff, flags2: 0xffff };

describe('negotiate', () => {
  test.each([
    ['strict', InitFlag.AUTO_INVAL_DATA, InitFlag.WRITEBACK_CACHE | InitFlag.EXPLICIT_INVAL_DATA],
    ['close-to-open', InitFlag.CACHE_SYMLINKS, InitFlag.WRITEBACK_CACHE | InitFlag.EXPLICIT_INVAL_DATA],
    ['exclusive', InitFlag.WRITEBACK_CACHE | InitFlag.EXPLICIT_INVAL_DATA, InitFlag.AUTO_INVAL_DATA],
  ] as const)('lets the kernel trust as much as %s allows', (consistency, wanted, unwanted) => {
    const { flags } = negotiate(everything, { ...defaultNegotiation, consistency });
    expect([flags & wanted, flags & unwanted]).toEqual([wanted, 0]);
  });

  test.each(consistencyModes)('takes nothing that the kernel does not offer (%s)', (consistency) => {
    const offer = { ...everything, flags: InitFlag.ASYNC_READ, flags2: 0 };
    const agreed = negotiate(offer, { ...defaultNegotiation, consistency });
    expect(agreed).toMatchObject({ flags: InitFlag.ASYNC_READ, flags2: 0, canResend: false, hasWriteback: false });
    expect(agreed.maxWriteBytes).toBe(32 * 4096);
  });

  test('reads the second word of flags only when the kernel says that it is there', () => {
    const without = { ...everything, flags: everything.flags & ~InitFlag.INIT_EXT };
    expect(negotiate(without, defaultNegotiation).flags2).toBe(0);
    expect(negotiate(everything, defaultNegotiation).flags2 & InitFlag2.HAS_RESEND).not.toBe(0);
  });

  test.each([
    [8, 0],
    [6, 45],
    [7, 30],
  ])('refuses protocol %d.%d', (major, minor) => {
    expect(() => negotiate({ ...everything, major, minor }, defaultNegotiation)).toThrow(ProtocolVersionError);
  });
});
