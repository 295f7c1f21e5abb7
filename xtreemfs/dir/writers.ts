import { InvalidInputError } from '#common/errors.ts';
import { ServiceType, type Service } from '#proto/generated/xtreemfs/dir.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError } from '../rpc/errors.ts';
import type { PeerIdentity } from '../rpc/peer.ts';

/** Servers of one kind: what their UUIDs begin with, and what their certificates say. */
export interface WriterRule {
  readonly kind: 'mrc' | 'osd';
  readonly uuidPrefix: string;
  /** Common name or alternative name (`DNS:…`) of their certificates, by exact name. */
  readonly name: string;
}

/** Who may write. */
export interface WritersOptions {
  /** Empty: everybody may write everything, as with upstream. */
  readonly rules: readonly WriterRule[];
  /** OUs of certificates whose holders may write everything, by exact name. */
  readonly adminGroups: readonly string[];
}

const form = /^(mrc|osd)\/([A-Za-z0-9._-]{1,128})\/([^/,\s]{1,255})$/;
const types: Readonly<Record<WriterRule['kind'], ServiceType>> = { mrc: ServiceType.MRC, osd: ServiceType.OSD };

/** Reads rules as an option has them: `KIND/UUID-PREFIX/NAME`, separated by commas. @throws {InvalidInputError} */
export function parseWriterRules(field: string, value: string): WriterRule[] {
  return value
    .split(',')
    .filter((rule) => rule !== '')
    .map((rule) => {
      const [, kind, uuidPrefix = '', name = ''] = form.exec(rule) ?? [];
      if (kind !== 'mrc' && kind !== 'osd') {
        throw new InvalidInputError(
          field,
          `${rule} is not KIND/UUID-PREFIX/NAME: use for example osd/osd-/DNS:osd.example.org`,
        );
      }
      return { kind, uuidPrefix, name };
    });
}

/**
 * Binds UUIDs to certificates. Whoever is believed where a service is gets what clients send there, and whoever may set an OSD's status has it
 * left out or emptied; so a certificate that is good for reading must not be good for that.
 */
export class Writers {
  private readonly options: WritersOptions;

  constructor(options: WritersOptions) {
    this.options = options;
  }

  /**
   * Before a record of a service is written or removed.
   * @param stored - what the DIR has under the UUID.
   * @param wanted - type that it is to have; undefined for everything but the service's own record.
   * @throws {RpcError} EPERM unless the peer's certificate is for this UUID.
   */
  check(peer: PeerIdentity, uuid: string, stored: Service | undefined, wanted?: ServiceType): void {
    const { rules, adminGroups } = this.options;
    if (rules.length === 0) return;
    const { certificate } = peer;
    if (certificate?.organizationalUnits.some((unit) => adminGroups.includes(unit)) === true) return;
    const names = [certificate?.commonName, ...(certificate?.alternativeNames ?? [])];
    const own = rules.filter(({ name }) => names.includes(name));
    const reserved = rules.filter(({ uuidPrefix }) => uuid.startsWith(uuidPrefix));
    const isOwn = own.some((rule) => reserved.includes(rule) && (wanted === undefined || wanted === types[rule.kind]));
    if (isOwn) return;
    // The MRC registers its volumes, under UUIDs that it makes up.
    const isVolume = (wanted ?? stored?.type) === ServiceType.VOLUME && (stored?.type ?? wanted) === ServiceType.VOLUME;
    if (isVolume && reserved.length === 0 && own.some(({ kind }) => kind === 'mrc')) return;
    const who = certificate === undefined ? 'Nobody without a certificate' : `The certificate of ${peer.address}`;
    throw errnoError(PosixErrno.EPERM, `${who} may not write what the DIR says of ${uuid}: it is not for this service`);
  }
}
