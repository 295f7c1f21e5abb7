import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { createServer } from 'node:net';
import { TerminalError } from '#common/errors.ts';

/**
 * Makes sure that one process at a time has `folder`: an abstract socket named after it, which the kernel frees when the process
 * ends, however it ends. Holds within one network namespace; a volume mounted in two pods needs ReadWriteOncePod.
 * @returns what frees it.
 * @throws {TerminalError} when another process has it.
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const name = createHash('sha256')
    .update(await realpath(folder))
    .digest('hex')
    .slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const isTaken = error.code === 'EADDRINUSE';
      reject(isTaken ? new TerminalError(`Open ${folder}: another process has it open; stop that one first`) : error);
    });
    server.listen(`\0xtreemfs-store-${name}`, resolve);
  });
  server.unref();
  return () => new Promise((resolve) => server.close(() => resolve()));
}
