import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { type FileSystem, fileSystems } from '#crds/file-system.ts';
import { fileSystemLabel } from '#operator/storage/names.ts';
import { secrets } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { AlreadyExistsError } from '#runtime/errors.ts';
import { controllerReference } from '#runtime/kind.ts';
import type { Stored } from '#runtime/types.ts';
import { keysName } from './pod.ts';

const secretBytes = 32;

/**
 * Makes the Secret that capabilities are signed with, once: an Ed25519 pair, of which OSDs get the public half, and the secret that MRC and
 * OSDs share. What is there is never replaced.
 */
export async function ensureKeys(client: Client, fileSystem: Stored<FileSystem>, signal: AbortSignal): Promise<void> {
  const { name, namespace } = fileSystem.metadata;
  const key = { name: keysName(name), ...(namespace === undefined ? {} : { namespace }) };
  if ((await client.of(secrets).find(key, { signal })) !== undefined) return;
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const secret = {
    metadata: {
      ...key,
      labels: { [fileSystemLabel]: name },
      ownerReferences: [controllerReference(fileSystems, fileSystem)],
    },
    immutable: true,
    stringData: {
      secret: randomBytes(secretBytes).toString('hex'),
      'sign.pem': privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      'verify.pem': publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    },
  };
  try {
    await client.of(secrets).create(secret, { signal });
  } catch (error) {
    if (!(error instanceof AlreadyExistsError)) throw error;
  }
}
