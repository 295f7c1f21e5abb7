import { createSocket } from 'node:dgram';
import { afterEach, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { osdProcedures, type PingMesssage } from '#proto/generated/xtreemfs/osd.ts';
import { MessageType } from '#proto/generated/xtreemfs/rpc.ts';
import { parseDatagram, UdpEndpoint } from './udp.ts';

const open: UdpEndpoint[] = [];

async function bind(): Promise<UdpEndpoint> {
  const endpoint = await UdpEndpoint.bind({ port: 0, host: '127.0.0.1', logger: silentLogger });
  open.push(endpoint);
  return endpoint;
}

afterEach(async () => {
  for (const endpoint of open.splice(0)) await endpoint.close();
});

const ping = { coordinates: { xCoordinate: 1.5, yCoordinate: -2, localError: 0.1 }, requestResponse: true };

test('a ping arrives with its sender, who can be answered', async () => {
  const [one, other] = [await bind(), await bind()];
  other.handle(osdProcedures.ping, (request, from) => {
    other.send(from, osdProcedures.ping, { ...request, requestResponse: false });
  });
  const answer = new Promise<PingMesssage>((resolve) => one.handle(osdProcedures.ping, resolve));
  one.send({ host: '127.0.0.1', port: other.port }, osdProcedures.ping, ping);
  expect(await answer).toEqual({ ...ping, requestResponse: false });
});

test('noise is dropped and the endpoint goes on', async () => {
  const endpoint = await bind();
  const received = new Promise<PingMesssage>((resolve) => endpoint.handle(osdProcedures.ping, resolve));
  const socket = createSocket('udp4');
  for (const noise of ['', '00', 'ffffffffffffffffffffffff', '000000010000000000000000ff', '00000000'.repeat(500)]) {
    socket.send(Buffer.from(noise, 'hex'), endpoint.port, '127.0.0.1');
  }
  await systemClock.sleep(20);
  const sender = await bind();
  sender.send({ host: '127.0.0.1', port: endpoint.port }, osdProcedures.ping, ping);
  expect(await received).toEqual(ping);
  socket.close();
});

test('a message that does not fit one datagram is not sent', async () => {
  const [one, other] = [await bind(), await bind()];
  const seen: MessageType[] = [];
  other.handlePlain(({ header }) => seen.push(header.messageType));
  const to = { host: '127.0.0.1', port: other.port };
  one.sendFrame(to, { callId: 1, messageType: MessageType.REQUEST }, Buffer.alloc(2048));
  one.sendFrame(to, { callId: 1, messageType: MessageType.RESPONSE_SUCCESS }, Buffer.alloc(10));
  await systemClock.sleep(50);
  expect(seen).toEqual([MessageType.RESPONSE_SUCCESS]);
});

test.each([
  ['shorter than its marker', Buffer.alloc(11)],
  ['longer than announced parts', Buffer.from('000000ff0000000000000000', 'hex')],
  ['without a header', Buffer.alloc(12)],
])('a datagram %s is no frame', (_, bytes) => {
  expect(parseDatagram(bytes)).toBeUndefined();
});
