import { once } from 'node:events';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { RpcClient } from './client.ts';
import type { PeerIdentity } from './peer.ts';
import { RpcServer } from './server.ts';
import { createAuthority, type TestAuthority } from './testing/certificates.ts';
import { TlsMaterial, type TlsFiles } from './tls.ts';
import { createDialer, listen, type Listening } from './transport.ts';

const deps = { clock: systemClock, logger: silentLogger };
const aRead = osdProcedures.read.request.decode(Buffer.alloc(0));
const content = Buffer.alloc(200_000, 0x17);

let authority: TestAuthority;
let strangers: TestAuthority;
let serverFiles: TlsFiles;
let memberFiles: TlsFiles;
const open: { close(): void }[] = [];

beforeAll(async () => {
  [authority, strangers] = [await createAuthority('grid'), await createAuthority('elsewhere')];
  serverFiles = await authority.issue('O=zib,OU=servers,CN=host/osd1');
  memberFiles = await authority.issue('O=zib,OU=users,CN=anna', ['anna.example']);
});

afterAll(() => {
  for (const item of open) item.close();
});

function material(files: TlsFiles): TlsMaterial {
  const tls = new TlsMaterial(files, deps);
  open.push(tls);
  return tls;
}

function aClient(scheme: 'pbrpcs' | 'pbrpcg', files: TlsFiles): RpcClient {
  const client = new RpcClient({ ...deps, dialer: createDialer(scheme, material(files)), connectTimeoutMs: 3_000 });
  open.push(client);
  return client;
}

describe.each(['pbrpcs', 'pbrpcg'] as const)('%s', (scheme) => {
  let server: RpcServer;
  let listening: Listening;
  let peer: PeerIdentity | undefined;
  let address: { host: string; port: number };

  beforeAll(async () => {
    server = new RpcServer(deps);
    server.handle(osdProcedures.read, (context) => {
      peer = context.peer;
      return { response: { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 }, data: content };
    });
    listening = await listen(server, {
      scheme,
      port: 0,
      tls: material(serverFiles),
      logger: silentLogger,
      handshakeTimeoutMs: 500,
    });
    address = { host: 'localhost', port: listening.port };
  });

  afterAll(async () => {
    listening.close();
    await server.stop(10);
  });

  test('calls go through, and the server knows the holder of the certificate', async () => {
    const client = aClient(scheme, memberFiles);
    const results = await Promise.all(
      Array.from({ length: 20 }, async () => client.call(address, osdProcedures.read, aRead)),
    );
    expect(results.every(({ data }) => data.equals(content))).toBe(true);
    expect(peer?.certificate).toMatchObject({
      subject: 'CN=anna,OU=users,O=zib',
      commonName: 'anna',
      organizations: ['zib'],
      organizationalUnits: ['users'],
      alternativeNames: ['DNS:anna.example'],
    });
  });

  test('a client of another authority is refused', async () => {
    const files = { ...(await strangers.issue('CN=root')), trustedPath: serverFiles.trustedPath };
    const client = aClient(scheme, files);
    await expect(client.call(address, osdProcedures.read, aRead, { timeoutMs: 2_000 })).rejects.toThrow(
      /connect|connection/i,
    );
  });

  test('a client that does not trust the server refuses it', async () => {
    const files = { ...memberFiles, trustedPath: (await strangers.issue('CN=x')).trustedPath };
    await expect(aClient(scheme, files).call(address, osdProcedures.read, aRead)).rejects.toThrow('Cannot connect');
  });

  test('a client without a certificate is refused', async () => {
    const socket = connectTls({
      host: 'localhost',
      port: listening.port,
      ca: readFileSync(serverFiles.trustedPath),
      maxVersion: 'TLSv1.2',
      checkServerIdentity: () => undefined,
    });
    const [error] = (await once(socket, 'error')) as [Error];
    expect(error).toBeDefined();
    socket.destroy();
  });

  test('a peer that speaks no TLS, or nothing at all, is closed and never served', async () => {
    const talker = connect(listening.port, 'localhost');
    const silent = connect(listening.port, 'localhost');
    for (const socket of [talker, silent]) socket.on('error', () => undefined).resume();
    talker.write(Buffer.from('000000250000000000000000', 'hex'));
    await Promise.all([once(talker, 'close'), once(silent, 'close')]);
    expect(server.connectionCount).toBeLessThanOrEqual(1);
  });
});

test('grid SSL sends data in the clear after its handshake, TLS does not', async () => {
  const seen: Record<string, boolean> = {};
  for (const scheme of ['pbrpcs', 'pbrpcg'] as const) {
    const server = new RpcServer(deps);
    const marker = Buffer.from('a text that the wire shows or hides');
    server.handle(osdProcedures.read, () => ({
      response: { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 },
      data: marker,
    }));
    const listening = await listen(server, { scheme, port: 0, tls: material(serverFiles), logger: silentLogger });
    const { createServer } = await import('node:net');
    let wire = '';
    const tap = createServer((inner) => {
      const outer = connect(listening.port, 'localhost');
      outer.on('data', (chunk) => (wire += chunk.toString('latin1')));
      inner
        .on('error', () => undefined)
        .pipe(outer)
        .on('error', () => undefined)
        .pipe(inner);
    });
    await new Promise<void>((resolve) => tap.listen(0, 'localhost', resolve));
    const { port } = tap.address() as { port: number };
    const { data } = await aClient(scheme, memberFiles).call({ host: 'localhost', port }, osdProcedures.read, aRead);
    expect(data.equals(marker)).toBe(true);
    seen[scheme] = wire.includes(marker.toString());
    await server.stop(10);
    listening.close();
    tap.close();
  }
  expect(seen).toEqual({ pbrpcs: false, pbrpcg: true });
});

test('a server whose certificate names another host is refused with TLS', async () => {
  const files = await authority.issue('CN=osd1', ['osd1.example']);
  const server = new RpcServer(deps);
  const listening = await listen(server, { scheme: 'pbrpcs', port: 0, tls: material(files), logger: silentLogger });
  const address = { host: 'localhost', port: listening.port };
  await expect(aClient('pbrpcs', memberFiles).call(address, osdProcedures.read, aRead)).rejects.toThrow(
    'Cannot connect',
  );
  listening.close();
  await server.stop(10);
});

test('files that do not belong together are refused by name', () => {
  expect(() => new TlsMaterial({ ...serverFiles, privateKeyPath: memberFiles.privateKeyPath! }, deps)).toThrow(
    'do not make a usable identity',
  );
  expect(() => new TlsMaterial({ ...serverFiles, trustedPath: '/nowhere' }, deps)).toThrow('/nowhere cannot be read');
});
