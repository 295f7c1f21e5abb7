import type { UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { PeerIdentity } from '../rpc/peer.ts';
import type { Caller } from './core/access.ts';
import { refuse } from './core/errno.ts';
import { nameBytesMax } from './core/keys.ts';

/** Groups of one caller at most (NGROUPS_MAX of Linux). */
const groupsMax = 65_536;

/** Where user and group names come from. */
export interface IdentityOptions {
  /**
   * - `request`: as the request says. For networks where every client is trusted (upstream's NullAuthProvider).
   * - `simple-x509`: user is the certificate's subject, groups are its OUs (upstream's SimpleX509AuthProvider).
   * - `federation-x509`: user is its CN, groups are its Os (FederationIdX509AuthProvider).
   */
  readonly provider: 'request' | 'simple-x509' | 'federation-x509';
  /** Users who may do everything, by exact name. Empty: nobody; a name alone, such as `root`, gives nothing. */
  readonly superUsers: readonly string[];
  /** OUs of verified certificates whose holders may do everything, by exact name. Never taken from a request. */
  readonly adminGroups: readonly string[];
  /** CNs or alternative names of services (node agents, other servers) whose requests may name any user, by exact name. */
  readonly serviceNames: readonly string[];
}

/**
 * Tells who calls. What a request says counts only from a peer that may say it; names are compared exactly: a group that merely
 * contains `admin`, or a certificate for `host/root.example`, gives nothing.
 */
export class Identities {
  private readonly options: IdentityOptions;
  private readonly superUsers: ReadonlySet<string>;

  constructor(options: IdentityOptions) {
    this.options = options;
    this.superUsers = new Set(options.superUsers);
  }

  /**
   * @param needsNames - whether the call is authorised by names (path-based) and not by a capability.
   * @throws {PosixError} EACCES without a user, a group or a certificate where one is needed.
   */
  identify(creds: UserCredentials, peer: PeerIdentity, needsNames: boolean): Caller {
    const client = peer.address;
    const { certificate } = peer;
    const holder = certificate?.holder;
    if (this.options.provider === 'request' || this.isService(peer)) {
      if (needsNames && (creds.username === '' || creds.groups.length === 0)) {
        refuse('EACCES', 'user_creds: a user name and at least one group are needed');
      }
      if (creds.groups.length > groupsMax) refuse('EINVAL', `user_creds: at most ${groupsMax} groups`);
      for (const name of [creds.username, ...creds.groups]) checkPrincipal(name);
      return {
        user: creds.username,
        groups: creds.groups,
        isSuper: this.superUsers.has(creds.username),
        client,
        holder,
      };
    }
    if (certificate === undefined) refuse('EACCES', 'A client certificate is needed (authentication provider)');
    const isSimple = this.options.provider === 'simple-x509';
    const user = isSimple ? certificate.subject : (certificate.commonName ?? '');
    const groups = isSimple ? certificate.organizationalUnits : certificate.organizations;
    if (user === '' || groups.length === 0) {
      refuse('EACCES', `The certificate ${certificate.subject} names no user or group (${isSimple ? 'OU' : 'CN, O'})`);
    }
    const isAdmin = certificate.organizationalUnits.some((unit) => this.options.adminGroups.includes(unit));
    return { user, groups, isSuper: isAdmin || this.superUsers.has(user), client, holder, isProven: true };
  }

  /** Whether the peer proved to be a service of this installation. */
  isService(peer: PeerIdentity): boolean {
    const { certificate } = peer;
    if (certificate === undefined) return false;
    const names = [certificate.commonName, ...certificate.alternativeNames];
    return names.some((name) => name !== undefined && this.options.serviceNames.includes(name));
  }
}

function checkPrincipal(name: string): void {
  if (Buffer.byteLength(name) > nameBytesMax || name.includes('\0')) {
    refuse('EINVAL', `user_creds: a name has at most ${nameBytesMax} bytes and no NUL`);
  }
}
