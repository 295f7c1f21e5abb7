/** What may be asked of servers through a relay: pure. */
import { dirProcedures } from '#proto/generated/xtreemfs/dir.ts';
import { SystemVFcntl } from '#proto/generated/xtreemfs/global-types.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { AuthType, type RequestHeader, type UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { Codec } from '#proto/wire.ts';
import type { ServerKind } from '../names.ts';

/** What one relayed connection is for. */
export interface RequestTerms {
  readonly server: ServerKind;
  /** Name of the volume at the MRC. */
  readonly volumeName: string;
  /** Its id: what the ids of its files begin with. */
  readonly volumeId: string;
  readonly isReadOnly: boolean;
  /** Whether the client may speak for somebody. */
  readonly permits: (user: UserCredentials) => boolean;
}

/** What the requests of a mount name files by; of each procedure some. */
interface Named {
  readonly name?: unknown;
  readonly volumeName?: unknown;
  readonly fileId?: unknown;
  readonly flags?: unknown;
  readonly xcap?: { readonly fileId: string } | undefined;
  readonly creds?: { readonly xcap: { readonly fileId: string } } | undefined;
  readonly fileCredentials?: { readonly xcap: { readonly fileId: string } } | undefined;
}

/**
 * By what a procedure says which volume it is about:
 * - `Open`: by nothing; anyone may ask.
 * - `Service`: by the name of a service.
 * - `Path`, `Change`, `Opening`: by the name of the volume. It is done with the rights of the user in the header.
 * - `Capability`: by a capability of the MRC, which says what may be done; who is in the header doesn't count.
 */
type Rule = 'Open' | 'Service' | 'Path' | 'Change' | 'Opening' | 'Capability';

interface Known {
  readonly server: ServerKind;
  readonly rule: Rule;
  readonly name: string;
  readonly codec: Codec<unknown>;
}

/** What a mount asks for, and nothing else: everything that administrators and servers ask is not here. */
const rules = {
  dir: [
    [dirProcedures.serviceGetByName, 'Service'],
    [dirProcedures.addressMappingsGet, 'Open'],
    [dirProcedures.globalTimeSGet, 'Open'],
  ],
  mrc: [
    [mrcProcedures.getattr, 'Path'],
    [mrcProcedures.readdir, 'Path'],
    [mrcProcedures.readlink, 'Path'],
    [mrcProcedures.statvfs, 'Path'],
    [mrcProcedures.access, 'Path'],
    [mrcProcedures.getxattr, 'Path'],
    [mrcProcedures.listxattr, 'Path'],
    [mrcProcedures.open, 'Opening'],
    [mrcProcedures.setattr, 'Change'],
    [mrcProcedures.mkdir, 'Change'],
    [mrcProcedures.rmdir, 'Change'],
    [mrcProcedures.unlink, 'Change'],
    [mrcProcedures.rename, 'Change'],
    [mrcProcedures.renameFlagged, 'Change'],
    [mrcProcedures.link, 'Change'],
    [mrcProcedures.symlink, 'Change'],
    [mrcProcedures.setxattr, 'Change'],
    [mrcProcedures.removexattr, 'Change'],
    [mrcProcedures.renewCapabilityAndVoucher, 'Capability'],
    [mrcProcedures.ftruncate, 'Capability'],
    [mrcProcedures.updateFileSize, 'Capability'],
    [mrcProcedures.getXlocset, 'Capability'],
    [mrcProcedures.clearVouchers, 'Capability'],
  ],
  osd: [
    [osdProcedures.read, 'Capability'],
    [osdProcedures.write, 'Capability'],
    [osdProcedures.truncate, 'Capability'],
    [osdProcedures.unlink, 'Capability'],
    [osdProcedures.finalizeVouchers, 'Capability'],
    [osdProcedures.internalGetGmax, 'Capability'],
    [osdProcedures.lockAcquire, 'Capability'],
    [osdProcedures.lockCheck, 'Capability'],
    [osdProcedures.lockRelease, 'Capability'],
  ],
} as const;

const known = new Map<string, Known>(
  Object.entries(rules).flatMap(([server, list]) =>
    list.map(([{ interfaceId, procId, name, request }, rule]) => [
      keyOf(interfaceId, procId),
      { server: server as ServerKind, rule, name, codec: request },
    ]),
  ),
);

function keyOf(interfaceId: number, procId: number): string {
  return `${interfaceId}.${procId}`;
}

/**
 * Why a request is not passed on, as a sentence; undefined when it is. Everything that it names has to be of the volume, and it has to name something.
 * @throws {CodecError} when the message can't be read.
 */
export function problemOf(header: RequestHeader, message: Buffer, terms: RequestTerms): string | undefined {
  const { interfaceId, procId, userCreds, authData } = header;
  const found = known.get(keyOf(interfaceId, procId));
  if (found?.server !== terms.server) return `Procedure ${procId} of interface ${interfaceId} is not for mounts.`;
  // Servers prove themselves so to each other.
  if (authData.authType !== AuthType.NONE) return 'Authentication beside the connection is not for mounts.';
  const { rule, name } = found;
  const named = found.codec.decode(message) as Named;
  const isElsewhere = `${name}: names what is not of this volume.`;
  if (rule === 'Open') return undefined;
  if (rule === 'Service') return named.name === terms.volumeName ? undefined : isElsewhere;
  if (!isOfVolume(named, rule, terms)) return isElsewhere;
  if (terms.isReadOnly && isChange(rule, named)) return `${name}: the volume may only be read here.`;
  if (rule === 'Capability') return undefined;
  return terms.permits(userCreds) ? undefined : `${name}: ${userCreds.username.slice(0, 64)} can not be spoken for.`;
}

function isOfVolume(named: Named, rule: Rule, { volumeName, volumeId }: RequestTerms): boolean {
  const { xcap, creds, fileCredentials } = named;
  const capabilities = [xcap, creds?.xcap, fileCredentials?.xcap, isCapability(named) ? named : undefined];
  const held = capabilities.flatMap((each) => (each === undefined ? [] : [each.fileId]));
  const files = named.fileId === undefined ? held : [...held, named.fileId];
  if (!files.every((file) => typeof file === 'string' && file.startsWith(`${volumeId}:`))) return false;
  const isNamed = named.volumeName === volumeName;
  if (named.volumeName !== undefined && !isNamed) return false;
  return rule === 'Capability' ? held.length > 0 : isNamed;
}

/** Whether the message is a capability itself. */
function isCapability(named: Named): named is { readonly fileId: string } {
  return typeof named.fileId === 'string' && 'serverSignature' in named;
}

function isChange(rule: Rule, { flags }: Named): boolean {
  const changing = SystemVFcntl.O_WRONLY | SystemVFcntl.O_RDWR | SystemVFcntl.O_CREAT | SystemVFcntl.O_TRUNC;
  return rule === 'Change' || (rule === 'Opening' && (Number(flags) & changing) !== 0);
}
