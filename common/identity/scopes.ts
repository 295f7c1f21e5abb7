/**
 * Scopes that narrow a token, as the WLCG Common JWT Profiles 1.3 §2.2.1 have them: `storage.read:/data compute.create`.
 * Non-conforming scopes are refused rather than repaired, which the profile leaves to us.
 */
import { InvalidInputError } from '#common/errors.ts';

/** Operations on files: a path must be given. `storage.stage` no longer implies reading. */
const storage = ['storage.read', 'storage.create', 'storage.modify', 'storage.stage', 'storage.poll'] as const;
/** Operations on jobs: there is no path. */
const compute = ['compute.read', 'compute.modify', 'compute.create', 'compute.cancel'] as const;

/** These also allow to ask for metadata of what they match. */
const statable: ReadonlySet<string> = new Set(['storage.read', 'storage.create', 'storage.modify', 'storage.stage']);

/** One right out of a scope. */
export interface Scope {
  readonly operation: string;
  /** Absolute and normalized; a trailing `/` means that it is a directory. Absent for `compute.*`. */
  readonly path?: string;
}

/**
 * Reads the value of a `scope` claim.
 * @throws {InvalidInputError} for an operation that isn't known, a missing or superfluous path, and a path that isn't absolute and normalized
 * (RFC 3986 §6).
 */
export function parseScopes(text: string): Scope[] {
  return text.split(' ').map((part) => {
    const colon = part.indexOf(':');
    const operation = colon < 0 ? part : part.slice(0, colon);
    const path = colon < 0 ? undefined : part.slice(colon + 1);
    if ((compute as readonly string[]).includes(operation)) {
      if (path !== undefined)
        throw new InvalidInputError('scope', `${operation} takes no path: leave ${JSON.stringify(path)} out`);
      return { operation };
    }
    if (!(storage as readonly string[]).includes(operation)) {
      throw new InvalidInputError(
        'scope',
        `${JSON.stringify(operation)} is not known: use ${[...storage, ...compute].join(', ')}`,
      );
    }
    if (path === undefined)
      throw new InvalidInputError('scope', `${operation} needs a path, for example ${operation}:/`);
    if (!isNormalized(path)) {
      throw new InvalidInputError(
        'scope',
        `${JSON.stringify(path)} is not absolute and normalized (RFC 3986 §6), as /data/run1 is`,
      );
    }
    return { operation, path };
  });
}

/** Absolute, no empty, `.` or `..` segment, escapes in capitals and only where they are needed. */
function isNormalized(path: string): boolean {
  if (!path.startsWith('/')) return false;
  const segments = path.slice(1).split('/');
  if (segments.at(-1) === '') segments.pop();
  return segments.every((segment) => {
    if (segment === '' || segment === '.' || segment === '..') return false;
    if (!/^([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})+$/.test(segment)) return false;
    // An unreserved character must stand for itself, and a slash or NUL inside a name can't be meant well.
    return [...segment.matchAll(/%([0-9A-F]{2})/g)].every(([, code = '']) => {
      const character = String.fromCharCode(parseInt(code, 16));
      return !/[A-Za-z0-9._~/\0-]/.test(character);
    });
  });
}

/**
 * Whether scopes allow an operation.
 * @param operation - one of the profile's, or `storage.stat`.
 * @param path - what it is done to, absolute and normalized as in scopes; a trailing `/` means that it is a directory. Anything else is refused.
 */
export function permits(scopes: readonly Scope[], operation: string, path?: string): boolean {
  const asked = (scope: Scope): boolean =>
    scope.operation === operation || (operation === 'storage.stat' && statable.has(scope.operation));
  if (!operation.startsWith('storage.')) return path === undefined && scopes.some(asked);
  if (path === undefined || !isNormalized(path)) return false;
  return scopes.some((scope) => {
    if (!asked(scope) || scope.path === undefined) return false;
    return covers(scope.path, path) || (operation === 'storage.create' && isLeadingDirectory(path, scope.path));
  });
}

/** Exactly the path, or below it. `/foo/bar` covers `/foo/bar/qux` but not `/foo/bargain`; `/foo/bar/` doesn't cover a file `/foo/bar`. */
function covers(scope: string, path: string): boolean {
  return path === scope || path.startsWith(scope.endsWith('/') ? scope : `${scope}/`);
}

/** A directory on the way to what may be created may be created as well. */
function isLeadingDirectory(path: string, scope: string): boolean {
  return path.endsWith('/') && path !== scope && scope.startsWith(path);
}
