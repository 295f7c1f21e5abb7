import { InvalidInputError } from '#common/errors.ts';
import type { Principal } from '#common/identity/ids.ts';
import type { Organizations } from './organizations.ts';

/** As commands write it; an issuer holds no `#`. */
export function formatPrincipal({ issuer, subject }: Principal): string {
  return `${issuer}#${subject}`;
}

/**
 * Reads `ISSUER#SUBJECT`.
 * @throws {InvalidInputError}
 */
export function parsePrincipal(text: string, flag: string): Principal {
  const hash = text.indexOf('#');
  if (hash <= 0 || hash === text.length - 1) {
    const example = 'https://login.example.org#alice or kubernetes:rennes#alice';
    throw new InvalidInputError(flag, `${JSON.stringify(text)} is no ISSUER#SUBJECT, for example ${example}`);
  }
  return { issuer: text.slice(0, hash), subject: text.slice(hash + 1) };
}

/**
 * The caller as a principal of the local site: a Kubernetes user under its own name.
 * @throws {InvalidInputError} naming `flag`, when the caller is no person to Kubernetes, or nothing tells how the local site is called.
 */
export async function callerPrincipal(
  api: Pick<Organizations, 'localSiteName' | 'whoAmI'>,
  flag: string,
): Promise<Principal> {
  const [site, userName] = await Promise.all([api.localSiteName(), api.whoAmI()]);
  if (site === undefined) {
    throw new InvalidInputError(
      flag,
      'is needed, since nothing tells you how this site is called: give ISSUER#SUBJECT, for example kubernetes:SITE#alice',
    );
  }
  if (userName.startsWith('system:')) {
    throw new InvalidInputError(flag, `is needed, since ${userName} is no person: give ISSUER#SUBJECT`);
  }
  return { issuer: `kubernetes:${site}`, subject: userName };
}
