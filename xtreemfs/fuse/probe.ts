import { describeError, TerminalError } from '#common/errors.ts';
import { silentLogger } from '#common/logger.ts';
import { MetadataClient } from '../client/metadata.ts';
import { nobodyName } from '../client/users.ts';
import type { MountConfig } from './mount-config.ts';
import { servicesFor, tlsOf } from './worker.ts';

/** Access control by POSIX modes: the kernel can check them. */
export const posixPolicy = '2';

/**
 * Asks for the volume before anything is mounted, so that a wrong name or a dead server is told at once. Nothing is asked
 * that takes a right on the volume.
 * @returns the access control policy of the volume.
 * @throws {TerminalError} when the volume can't be reached, with the reason.
 */
export async function probeVolume(config: MountConfig): Promise<string> {
  const tls = tlsOf(config, silentLogger);
  const services = servicesFor({ ...config, triesMax: 1 }, silentLogger, tls);
  try {
    const metadata = new MetadataClient(services, config.volumeName, await services.findVolume(config.volumeName));
    // Where only issued ids mean somebody, root is nobody.
    const name = config.issuedIds === undefined ? 'root' : nobodyName;
    const caller = { user: { username: name, groups: [name] } };
    await metadata.statvfs(caller);
    const attributes = await metadata.listxattr(caller, '', false);
    const policy = attributes.find((attribute) => attribute.name === 'xtreemfs.ac_policy_id');
    return policy === undefined ? posixPolicy : Buffer.from(policy.valueBytesString ?? policy.value ?? []).toString();
  } catch (error) {
    if (error instanceof TerminalError) throw error;
    throw new TerminalError(`volume ${config.volumeName} can't be reached: ${describeError(error)}`, { cause: error });
  } finally {
    services.close();
    tls?.close();
  }
}
