import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { type WebSocket, WebSocketServer } from 'ws';
import type { CredentialSource } from './credentials.ts';
import { ForbiddenError } from './errors.ts';
import { type RemoteStreams, runRemoteCommand } from './remote-command.ts';

jest.setTimeout(60_000);

/** What the kubelet's side does with a connection. */
type Behaviour = (socket: WebSocket) => void;

let http: Server;
let sockets: WebSocketServer;
let behave: Behaviour;
let refusal: { status: number; body: string } | undefined;
let source: CredentialSource;

beforeEach(async () => {
  refusal = undefined;
  http = createServer();
  sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0] ?? false });
  http.on('upgrade', (request, socket, head) => {
    if (refusal !== undefined) {
      socket.end(`HTTP/1.1 ${refusal.status} No\r\nContent-Length: ${refusal.body.length}\r\n\r\n${refusal.body}`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (connection) => behave(connection));
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  source = { load: async () => ({ origin, basePath: '', headers: {}, tls: { rejectUnauthorized: true } }) };
});
afterEach(async () => {
  for (const client of sockets.clients) client.terminate();
  await new Promise((resolve) => http.close(resolve));
});

const frame = (channel: number, data: string): Buffer => Buffer.concat([Buffer.from([channel]), Buffer.from(data)]);
const endWith = (socket: WebSocket, status: object): void => {
  socket.send(frame(3, JSON.stringify(status)));
  socket.close();
};
const exitOf = (code: number): object => ({
  status: 'Failure',
  reason: 'NonZeroExitCode',
  details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
});

interface Heard {
  out: string;
  err: string;
}

async function connect(more: Partial<RemoteStreams> = {}, signal = new AbortController().signal) {
  const heard: Heard = { out: '', err: '' };
  const streams: RemoteStreams = {
    endsStdin: true,
    onStdout: (chunk) => void (heard.out += chunk.toString()),
    onStderr: (chunk) => void (heard.err += chunk.toString()),
    ...more,
  };
  return { status: await runRemoteCommand(source, { path: '/exec?x=1', signal }, streams), heard };
}

describe('a command in a container', () => {
  test('gives its outputs apart, and its exit status', async () => {
    behave = (socket) => {
      socket.send(frame(1, 'out'));
      socket.send(frame(2, 'err'));
      endWith(socket, exitOf(7));
    };
    expect(await connect()).toEqual({ status: 7, heard: { out: 'out', err: 'err' } });
  });

  test('gets its input, and is told where it ends', async () => {
    behave = (socket) => {
      let got = '';
      socket.on('message', (data) => {
        const message = data as Buffer;
        if (message[0] === 0) got += message.subarray(1).toString();
        if (message[0] !== 255) return;
        socket.send(frame(1, `${got.length} of channel ${String(message[1])}`));
        endWith(socket, { status: 'Success' });
      });
    };
    const chunks = Array.from({ length: 40 }, () => Buffer.alloc(100_000, 'x'));
    const { status, heard } = await connect({ stdin: Readable.from(chunks) });
    expect([status, heard.out]).toEqual([0, '4000000 of channel 0']);
  });

  test('is told the size of the terminal', async () => {
    behave = (socket) => {
      socket.on('message', (data) => {
        const message = data as Buffer;
        socket.send(frame(1, `${String(message[0])} ${message.subarray(1).toString()}`));
        endWith(socket, { status: 'Success' });
      });
    };
    const { heard } = await connect({ onConnect: (resize) => resize({ columns: 80, rows: 24 }) });
    expect(heard.out).toBe('4 {"Width":80,"Height":24}');
  });

  test('is not read on while what it said is not taken', async () => {
    const said = 24 * 1024 * 1024;
    const socket: WebSocket[] = [];
    behave = (connection) => {
      socket.push(connection);
      for (let sent = 0; sent < said; sent += 65_536) connection.send(frame(1, 'x'.repeat(65_536)));
      endWith(connection, { status: 'Success' });
    };
    const hold = Promise.withResolvers<undefined>();
    let got = 0;
    const ended = connect({
      onStdout: async (chunk) => {
        got += chunk.length;
        await hold.promise;
      },
    });
    // Whoever reads on has it all before the server could tell the difference.
    const left = (): number => socket[0]?.bufferedAmount ?? -1;
    for (let before = -2; before !== left();) {
      before = left();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(left()).toBeGreaterThan(said / 4);
    hold.resolve(undefined);
    expect((await ended).status).toBe(0);
    expect(got).toBe(said);
  });

  test('that is refused is an error in the words of the server', async () => {
    const body = JSON.stringify({ message: 'pods "a" is forbidden', reason: 'Forbidden', code: 403 });
    refusal = { status: 403, body };
    await expect(connect()).rejects.toBeInstanceOf(ForbiddenError);
    refusal = { status: 502, body: 'bad gateway' };
    await expect(connect()).rejects.toThrow(/bad gateway/);
  });

  test('that can not be started is an error, not an exit status', async () => {
    behave = (socket) =>
      endWith(socket, { status: 'Failure', reason: 'InternalError', message: 'no such file', code: 500 });
    await expect(connect()).rejects.toThrow(/no such file/);
  });

  test('whose connection breaks has no exit status', async () => {
    behave = (socket) => {
      socket.send(frame(1, 'out'));
      socket.terminate();
    };
    await expect(connect()).rejects.toMatchObject({ name: 'ConnectionError' });
  });

  test('is left alone when the caller gives up', async () => {
    const controller = new AbortController();
    behave = () => controller.abort(new Error('Ctrl-C'));
    await expect(connect({}, controller.signal)).rejects.toThrow('Ctrl-C');
  });
});
