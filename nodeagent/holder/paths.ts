import { realpathSync } from 'node:fs';
import path from 'node:path';
import { systemErrorCode } from '#common/errors.ts';
import { HolderError } from './protocol.ts';

/**
 * Checks a path on which something is to be mounted: it lies below one of our roots, is written in its only way, and no folder
 * on the way is a symbolic link. The last part itself is not looked at: it may be a mount that does not answer.
 * @param roots - folders that mounts may be made below; they may be links themselves.
 * @throws {HolderError} `Invalid` with the reason.
 */
export function checkMountPath(text: string, roots: readonly string[]): void {
  if (text.includes('\0')) throw new HolderError('Invalid', 'the path holds a NUL byte');
  if (path.resolve(text) !== text) {
    throw new HolderError(
      'Invalid',
      `${text} is not a plain absolute path: write it without . and .. and slashes at the end`,
    );
  }
  const root = roots.find((each) => text.startsWith(`${each}/`));
  if (root === undefined) throw new HolderError('Invalid', `${text} does not lie below ${roots.join(' or ')}`);
  const folder = path.dirname(text);
  const expected = path.join(realpathSync(root), path.relative(root, folder));
  let real: string;
  try {
    real = realpathSync(folder);
  } catch (error) {
    throw new HolderError('Invalid', `${folder} can not be used (${systemErrorCode(error) ?? 'unknown error'})`, {
      cause: error,
    });
  }
  if (real !== expected) throw new HolderError('Invalid', `${folder} leads elsewhere by a symbolic link, to ${real}`);
}
