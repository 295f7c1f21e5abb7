import { networkInterfaces } from 'node:os';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { dirInterfaceId, dirServiceCodec, type DirService } from '#proto/generated/xtreemfs/dir.ts';
import { MessageType } from '#proto/generated/xtreemfs/rpc.ts';
import { ioError } from '../rpc/errors.ts';
import { UdpEndpoint } from '../rpc/udp.ts';

/** The host name that asks for a search in place of an address. */
export const discoveryHost = '.autodiscover';

const broadcastMs = 1_000;

/**
 * Answers servers that search for a DIR by broadcast (protocol reference, 1.2).
 * @param options.port - UDP port, by default the number of the DIR's TCP port.
 */
export async function answerDiscovery(options: {
  readonly port: number;
  readonly host?: string | undefined;
  readonly service: Omit<DirService, 'interfaceVersion'>;
  readonly logger: Logger;
}): Promise<UdpEndpoint> {
  const { port, host, service, logger } = options;
  const endpoint = await UdpEndpoint.bind({ port, host, logger });
  const message = dirServiceCodec.encode({ ...service, interfaceVersion: dirInterfaceId });
  endpoint.handlePlain(({ header }, from) => {
    if (header.messageType !== MessageType.REQUEST) return;
    endpoint.sendFrame(from, { callId: header.callId, messageType: MessageType.RESPONSE_SUCCESS }, message);
  });
  return endpoint;
}

/**
 * Searches for a DIR: broadcasts once a second until one answers.
 * @param options.targets - where to send; default: the broadcast addresses of this machine's networks.
 * @throws {RpcError} IO_ERROR when none answers within `timeoutMs`.
 */
export async function discoverDir(options: {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly port?: number;
  readonly targets?: readonly string[];
  readonly timeoutMs?: number;
}): Promise<DirService> {
  const { clock, logger, port = 32_638, timeoutMs = 30_000, targets = broadcastAddresses() } = options;
  const endpoint = await UdpEndpoint.bind({ port: 0, logger });
  const abort = new AbortController();
  try {
    endpoint.allowBroadcast();
    let found: DirService | undefined;
    endpoint.handlePlain(({ header, message }) => {
      if (header.messageType !== MessageType.RESPONSE_SUCCESS || found !== undefined) return;
      found = dirServiceCodec.decode(message);
      abort.abort(new Error('found'));
    });
    const end = clock.monotonic() + timeoutMs;
    while (clock.monotonic() < end) {
      for (const host of targets) {
        endpoint.sendFrame({ host, port }, { callId: 1, messageType: MessageType.REQUEST }, Buffer.alloc(0));
      }
      await clock.sleep(broadcastMs, abort.signal).catch(() => undefined);
      if (found !== undefined) return found;
    }
    throw ioError(`No DIR answered the search on UDP port ${port} within ${timeoutMs} ms; name one with --dir`);
  } finally {
    await endpoint.close();
  }
}

/** The broadcast address of each IPv4 network of this machine. */
function broadcastAddresses(): string[] {
  const networks = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  const addresses = networks
    .filter((network) => network.family === 'IPv4')
    .map(({ address, netmask }) => {
      const mask = netmask.split('.').map(Number);
      return address
        .split('.')
        .map((part, index) => (Number(part) | (~(mask[index] ?? 255) & 255)) & 255)
        .join('.');
    });
  return [...new Set(addresses)];
}
