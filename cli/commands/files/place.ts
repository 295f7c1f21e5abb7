import { InvalidInputError } from '#common/errors.ts';

/** A file or folder on a volume. */
export interface VolumePlace {
  readonly volume: string;
  /** Below its root, without a slash at the beginning; empty for the root itself. */
  readonly path: string;
}

/** Where sessions mount the volume. */
export const mountPath = '/volume';

const form = /^([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?):(.*)$/s;

/** Reads `VOLUME:PATH`; undefined for what is a place on this machine. @throws {InvalidInputError} when it leaves the volume. */
export function parsePlace(text: string, name: string): VolumePlace | undefined {
  const [, volume, path] = form.exec(text) ?? [];
  if (volume === undefined || path === undefined) return undefined;
  if (path.includes('\0') || path.split('/').includes('..')) {
    throw new InvalidInputError(name, `${JSON.stringify(text)} leads out of the volume: name a path below its root`);
  }
  return { volume, path: path.replace(/^\/+/, '') };
}

/** What `xos ls` is given: a volume, with or without a path. @throws {InvalidInputError} */
export function requirePlace(text: string, name: string): VolumePlace {
  const place = parsePlace(text.includes(':') ? text : `${text}:`, name);
  if (place === undefined) throw new InvalidInputError(name, `${JSON.stringify(text)} is not VOLUME or VOLUME:PATH`);
  return place;
}

/** The same place as a session sees it. */
export function seenAt({ path }: VolumePlace): string {
  return path === '' ? mountPath : `${mountPath}/${path}`;
}
