/** Capabilities that somebody got hold of, used again: by others, elsewhere, for less than they were given for, too late. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SystemVFcntl, type FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { MetadataClient } from '#xtreemfs/client/metadata.ts';
import { Services } from '#xtreemfs/client/services.ts';
import { aReplica, xlocsOf } from '#xtreemfs/osd/testing/osd-cluster.ts';
import { ServerList } from '#xtreemfs/rpc/retry.ts';
import { createAuthority, type TestAuthority } from '#xtreemfs/rpc/testing/certificates.ts';
import { TlsMaterial } from '#xtreemfs/rpc/tls.ts';
import { exchange } from '../../interop/exchange.ts';
import { MixedInstallation } from '../../interop/mixed-installation.ts';
import { canMount, sh } from './mounts.ts';

const host = '127.0.0.1';
/** Shortest life of a capability that an MRC takes. */
const capabilityTimeoutMs = 60_000;

/** Somebody with a certificate who speaks to the servers directly. */
class Client {
  readonly metadata: MetadataClient;
  private readonly services: Services;
  private readonly installation: MixedInstallation;
  private readonly tls: TlsMaterial;

  private constructor(installation: MixedInstallation, tls: TlsMaterial) {
    this.installation = installation;
    this.tls = tls;
    const dirs = [{ host, port: portOf(installation, 'dir') }];
    const deps = { clock: systemClock, logger: silentLogger };
    this.services = new Services({ ...deps, dirs, scheme: 'pbrpcs', tls, triesMax: 1 });
    this.metadata = new MetadataClient(this.services, 'shared', new ServerList(['mrc']));
  }

  static async make(installation: MixedInstallation, authority: TestAuthority, name: string): Promise<Client> {
    const files = await authority.issue(`CN=${name},O=site`, ['localhost', host]);
    return new Client(installation, new TlsMaterial(files, { clock: systemClock, logger: silentLogger }));
  }

  async open(path: string, flags: number, mode = 0o666): Promise<FileCredentials> {
    return (await this.metadata.open({ user: { username: 'me', groups: ['us'] } }, path, flags, { mode })).creds;
  }

  /** @returns what was read, or the words of the refusal. */
  async read(osd: string, fileCredentials: FileCredentials): Promise<string> {
    const { fileId } = fileCredentials.xcap;
    const about = { fileId, objectNumber: 0, objectVersion: 0, offset: 0, length: 100, fileCredentials };
    const address = { host, port: portOf(this.installation, osd) };
    return await wordsOf(this.services.client.call(address, osdProcedures.read, about).then(({ data }) => data));
  }

  async write(osd: string, fileCredentials: FileCredentials, text: string): Promise<string> {
    const { fileId } = fileCredentials.xcap;
    const objectData = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };
    const place = { objectNumber: 0, objectVersion: 0, offset: 0, leaseTimeout: 0 };
    const request = { fileId, fileCredentials, objectData, ...place };
    const address = { host, port: portOf(this.installation, osd) };
    const written = this.services.client.call(address, osdProcedures.write, request, { data: Buffer.from(text) });
    return await wordsOf(written.then(() => 'written'));
  }

  async renew({ xcap }: FileCredentials): Promise<string> {
    const address = { host, port: portOf(this.installation, 'mrc') };
    const renewed = this.services.client.call(address, mrcProcedures.renewCapability, xcap);
    return await wordsOf(renewed.then(() => 'renewed'));
  }

  close(): void {
    this.services.close();
    this.tls.close();
  }
}

const portOf = (installation: MixedInstallation, uuid: string): number =>
  installation.servers.find((server) => server.uuid === uuid)?.port ?? 0;

const wordsOf = async (call: Promise<string | Buffer>): Promise<string> =>
  call.then(
    (answer) => answer.toString(),
    (error: unknown) => (error as Error).message,
  );

(canMount ? describe : describe.skip)('threat 23: a capability that somebody else has seen', () => {
  let installation: MixedInstallation;
  let anna: Client;
  let bob: Client;
  let creds: FileCredentials;
  let [home, elsewhere] = ['', ''];
  let issuedMs = 0;

  beforeAll(async () => {
    const authority = await createAuthority('grid');
    const server = await authority.issue('CN=host/server,O=site', ['localhost', host]);
    const operator = await authority.issue('CN=operator,OU=admin,O=site', ['localhost', host]);
    installation = await MixedInstallation.start('ours', 'ours', ['ours', 'ours', 'ours'], {
      scheme: 'pbrpcs',
      server: (kind) => [
        `--tls-certificate=${server.certificatePath}`,
        `--tls-private-key=${server.privateKeyPath}`,
        `--tls-trusted=${server.trustedPath}`,
        ...(kind === 'mrc'
          ? [
              '--authentication-provider=federation-x509',
              '--admin-groups=admin',
              `--capability-timeout-s=${capabilityTimeoutMs / 1000}`,
            ]
          : []),
      ],
      client: [
        `--pem-certificate-file-path=${operator.certificatePath}`,
        `--pem-private-key-file-path=${operator.privateKeyPath}`,
        `--pem-trusted-certificates-file-path=${operator.trustedPath}`,
      ],
    });
    await installation.tool('ours', 'mkfs.xtreemfs', '-u operator -g site -m 777', 'shared');
    [anna, bob] = [
      await Client.make(installation, authority, 'anna'),
      await Client.make(installation, authority, 'bob'),
    ];
    const { O_CREAT, O_RDWR } = SystemVFcntl;
    creds = await anna.open('/file', O_CREAT | O_RDWR);
    issuedMs = systemClock.monotonic();
    home = creds.xlocs.replicas[0]?.osdUuids[0] ?? '';
    elsewhere = home === 'osd-0' ? 'osd-1' : 'osd-0';
    expect(await anna.write(home, creds, 'from anna')).toBe('written');
  }, 200_000);
  afterAll(async () => {
    anna.close();
    bob.close();
    await installation.stop();
  }, 120_000);

  test('serves who got it, and is of no use to anybody else, at OSDs and at the MRC', async () => {
    expect(await anna.read(home, creds)).toBe('from anna');
    expect(await anna.renew(creds)).toBe('renewed');
    expect(await bob.read(home, creds)).toContain('given to another client');
    expect(await bob.write(home, creds, 'from bob')).toContain('given to another client');
    expect(await bob.renew(creds)).toContain('given to another client');
    const relabelled = { ...creds, xcap: { ...creds.xcap, holder: undefined } };
    expect(await bob.read(home, relabelled)).toContain('forged');
  });

  test('says nothing to an OSD that the file is not on, nor for other locations than the MRC gave out', async () => {
    const moved = { ...creds, xlocs: xlocsOf([aReplica([elsewhere], 128)]) };
    expect(await anna.write(elsewhere, moved, 'orphan')).toContain('not what the MRC gave out');
    const signed = { ...moved, xlocs: { ...moved.xlocs, serverSignature: creds.xlocs.serverSignature } };
    expect(await anna.write(elsewhere, signed, 'orphan')).toContain('not what the MRC gave out');
    const newer = { ...creds, xlocs: { ...creds.xlocs, version: creds.xlocs.version + 1 } };
    expect(await anna.read(home, newer)).toContain('not what the MRC gave out');
  });

  test('is not renewed for who has lost the right; the owner keeps open files through a change of mode', async () => {
    const lent = await bob.open('/file', SystemVFcntl.O_RDWR);
    expect(await bob.read(home, lent)).toBe('from anna');
    expect(await bob.renew(lent)).toBe('renewed');
    await anna.metadata.setattr({ user: { username: 'anna', groups: ['site'] } }, '/file', { mode: 0 }, 1);
    expect(await bob.renew(lent)).toContain('bob lacks the right');
    expect(await anna.renew(creds)).toBe('renewed');
  });

  test('is passed on among the OSDs of striped and replicated files', async () => {
    await installation.tool('ours', 'mkfs.xtreemfs', '-u operator -g site -w 3 -s 64', 'striped');
    const striped = await installation.mount('ours', 'striped');
    await exchange(striped, striped, 'folder');
    await installation.tool('ours', 'mkfs.xtreemfs', '-u operator -g site', 'replicated');
    const replicated = await installation.mount('ours', 'replicated');
    const policy = JSON.stringify({ 'update-policy': 'WqRq', 'replication-factor': '3' });
    await sh(`setfattr -n xtreemfs.default_rp -v '${policy}' '${replicated}'`);
    await exchange(replicated, replicated, 'folder');
  }, 200_000);

  test('ends with its time', async () => {
    await systemClock.sleep(Math.max(0, issuedMs + capabilityTimeoutMs + 2_000 - systemClock.monotonic()));
    expect(await anna.read(home, creds)).toContain('expired');
    expect(await anna.renew(creds)).toContain('expired');
  }, 90_000);
});
