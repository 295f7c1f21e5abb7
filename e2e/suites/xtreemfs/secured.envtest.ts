/** Mounts over TLS, capabilities that no OSD can make, and what a shared volume must not bring to a machine. */
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { aReplica, OsdCluster, openMode, xlocsOf } from '#xtreemfs/osd/testing/osd-cluster.ts';
import { RpcClient } from '#xtreemfs/rpc/client.ts';
import { createAuthority, type TestAuthority } from '#xtreemfs/rpc/testing/certificates.ts';
import type { TlsFiles } from '#xtreemfs/rpc/tls.ts';
import { createDialer } from '#xtreemfs/rpc/transport.ts';
import { CapabilityKeys } from '#xtreemfs/service/capability.ts';
import { exchange } from '../../interop/exchange.ts';
import { capabilitySecret, MixedInstallation } from '../../interop/mixed-installation.ts';
import { canMount, sh } from './mounts.ts';

let installation: MixedInstallation | undefined;
let folder = '';
let authority: TestAuthority;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'xtreemfs-secured-'));
  authority = await createAuthority('grid');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(async () => {
  await installation?.stop();
  installation = undefined;
}, 120_000);

function clientOptions(files: TlsFiles, scheme: string): string[] {
  return [
    `--pem-certificate-file-path=${files.certificatePath}`,
    `--pem-private-key-file-path=${files.privateKeyPath}`,
    `--pem-trusted-certificates-file-path=${files.trustedPath}`,
    ...(scheme === 'pbrpcg' ? ['--grid-ssl'] : []),
  ];
}

(canMount ? describe : describe.skip)('An installation with certificates or keys (needs root and /dev/fuse)', () => {
  test.each(['pbrpcs', 'pbrpcg'] as const)(
    'serves mounts over %s, and nobody whose certificate it does not trust',
    async (scheme) => {
      const names = ['localhost', '127.0.0.1'];
      const server = await authority.issue('O=site,CN=host/server', names);
      const member = await authority.issue('O=site,CN=anna', names);
      const stranger = await (await createAuthority('elsewhere')).issue('O=site,CN=anna', names);
      installation = await MixedInstallation.start('ours', 'ours', ['ours', 'ours'], {
        scheme,
        server: () => [
          `--tls-certificate=${server.certificatePath}`,
          `--tls-private-key=${server.privateKeyPath}`,
          `--tls-trusted=${server.trustedPath}`,
        ],
        client: clientOptions(member, scheme),
      });
      await installation.tool('ours', 'mkfs.xtreemfs', '-w 2 -s 64', 'secured');
      const mount = await installation.mount('ours', 'secured');
      await exchange(mount, mount, 'folder');
      const refused = installation.tool('ours', 'lsfs.xtreemfs', clientOptions(stranger, scheme).join(' '));
      await expect(refused).rejects.toThrow();
    },
    200_000,
  );

  test('threat 24: with keys, takes no capability that the shared secret of an OSD could make', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const [signing, verifying] = [join(folder, 'signing.pem'), join(folder, 'verifying.pem')];
    writeFileSync(signing, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    writeFileSync(verifying, publicKey.export({ type: 'spki', format: 'pem' }));
    installation = await MixedInstallation.start('ours', 'ours', ['ours'], {
      server: (kind) => [
        ...(kind === 'dir' ? [] : [`--capability-verify-keys=${verifying}`]),
        ...(kind === 'mrc' ? [`--capability-signing-key=${signing}`] : []),
      ],
    });
    await installation.tool('ours', 'mkfs.xtreemfs', '', 'signed');
    const mount = await installation.mount('ours', 'signed');
    await fs.writeFile(join(mount, 'file'), 'only for holders');
    expect(await fs.readFile(join(mount, 'file'), 'utf8')).toBe('only for holders');
    const shown = await installation.util('ours', join(mount, 'file'), '');
    const fileId = /file id\s+(\S+)/.exec(shown)?.[1] ?? '';
    const wanted = new OsdCluster().cap({ fileId, accessMode: openMode.read });
    const xcap = new CapabilityKeys({ secrets: [capabilitySecret] }).sign(wanted);
    const client = new RpcClient({ clock: systemClock, logger: silentLogger, dialer: createDialer('pbrpc') });
    const port = installation.servers.find(({ uuid }) => uuid === 'osd-0')?.port ?? 0;
    const about = { fileId, objectNumber: 0, objectVersion: 0, offset: 0, length: 100 };
    const request = { ...about, fileCredentials: { xcap, xlocs: xlocsOf([aReplica(['osd-0'], 128)]) } };
    const stolen = client.call({ host: '127.0.0.1', port }, osdProcedures.read, request);
    await expect(stolen).rejects.toThrow('forged');
    client.close();
  }, 120_000);

  test('threat 27: setuid programs and devices of a volume have no effect on the machine', async () => {
    installation = await MixedInstallation.start('ours', 'ours', ['ours']);
    await installation.tool('ours', 'mkfs.xtreemfs', '', 'shared');
    const mount = await installation.mount('ours', 'shared');
    await sh(`cp /usr/bin/id '${mount}/id'`);
    chmodSync(join(mount, 'id'), 0o4755);
    await sh(`chmod 755 '${installation.folder}'`);
    expect(await sh(`setpriv --reuid 65534 --regid 65534 --clear-groups '${mount}/id' -u`)).toBe('65534');
    await sh(`mknod '${mount}/null' c 1 3`);
    await expect(fs.writeFile(join(mount, 'null'), 'x')).rejects.toMatchObject({ code: 'EACCES' });
  }, 120_000);
});
