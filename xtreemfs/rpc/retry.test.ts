import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { dirProcedures, type AddressMapping } from '#proto/generated/xtreemfs/dir.ts';
import { ErrorType, PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { RpcClient } from './client.ts';
import { errnoError, ioError, redirectError, RpcError } from './errors.ts';
import { chooseMapping, fixedResolver, UuidResolver } from './resolver.ts';
import { callWithRetries, ServerList } from './retry.ts';

const time = dirProcedures.globalTimeSGet;

/** A client whose servers answer as the script says, by their port. */
class ScriptedClient extends RpcClient {
  readonly asked: number[] = [];
  private readonly answer: (port: number, attempt: number) => unknown;

  constructor(answer: (port: number, attempt: number) => unknown) {
    const dialer = { scheme: 'pbrpc' as const, dial: async () => Promise.reject(new Error('not used')) };
    super({ clock: new VirtualClock(), logger: silentLogger, dialer });
    this.answer = answer;
  }

  override call: RpcClient['call'] = async (address) => {
    this.asked.push(address.port);
    const answer = this.answer(address.port, this.asked.length);
    if (answer instanceof Error) throw answer;
    return { response: answer as never, data: Buffer.alloc(0) };
  };
}

const resolver = fixedResolver({ a: { host: 'a', port: 1 }, b: { host: 'b', port: 2 }, c: { host: 'c', port: 3 } });

async function run(
  answer: (port: number, attempt: number) => unknown,
  servers = new ServerList(['a', 'b', 'c']),
  triesMax = 10,
): Promise<{ outcome: unknown; asked: number[]; waitedMs: number; preferred: string }> {
  const clock = new VirtualClock();
  const client = new ScriptedClient(answer);
  let outcome: unknown;
  const policy = { triesMax, retryDelayMs: 1_000 };
  const call = callWithRetries({ client, resolver, clock }, servers, time, {}, policy).then(
    ({ response }) => (outcome = response),
    (error: unknown) => (outcome = error),
  );
  for (let round = 0; round < 100 && outcome === undefined; round++) await clock.advanceAsync(1_000);
  await call;
  return { outcome, asked: client.asked, waitedMs: clock.monotonic(), preferred: servers.preferred };
}

describe('a call to several servers', () => {
  test('is answered by the first that answers, which is asked first from then on', async () => {
    const { outcome, asked, preferred } = await run((port) => (port === 3 ? 'ok' : ioError('down')));
    expect({ outcome, asked, preferred }).toEqual({ outcome: 'ok', asked: [1, 2, 3], preferred: 'c' });
  });

  test('pauses after every server was asked once', async () => {
    const { asked } = await run((_, attempt) => (attempt === 8 ? 'ok' : ioError('down')));
    expect(asked).toEqual([1, 2, 3, 1, 2, 3, 1, 2]);
  });

  test('gives up after the attempts that the policy allows', async () => {
    const { outcome, asked } = await run(() => ioError('down'), new ServerList(['a', 'b']), 3);
    expect(outcome).toMatchObject({ errorType: ErrorType.IO_ERROR, message: 'down' });
    expect(asked).toHaveLength(3);
  });

  test('goes on for ever when the policy says so', async () => {
    const { outcome } = await run((_, attempt) => (attempt === 60 ? 'ok' : ioError('down')), new ServerList(['a']), 0);
    expect(outcome).toBe('ok');
  });

  test('tries another server after an internal error, but not after any other answer', async () => {
    const internal = new RpcError('bug', { errorType: ErrorType.INTERNAL_SERVER_ERROR });
    expect((await run((port) => (port === 1 ? internal : 'ok'))).outcome).toBe('ok');
    const answer = errnoError(PosixErrno.ENOENT, 'none');
    expect(await run(() => answer)).toMatchObject({ outcome: answer, asked: [1] });
  });

  test('follows a redirect at once and keeps to its target', async () => {
    const { outcome, asked, preferred } = await run((port) => (port === 2 ? 'ok' : redirectError('b')));
    expect({ outcome, asked, preferred }).toEqual({ outcome: 'ok', asked: [1, 2], preferred: 'b' });
  });

  test('follows a redirect to an address', async () => {
    const { outcome, asked } = await run((port) => (port === 99 ? 'ok' : redirectError('x:99')));
    expect({ outcome, asked }).toEqual({ outcome: 'ok', asked: [1, 99] });
  });

  test('does not follow servers that redirect to each other for ever', async () => {
    const { outcome, asked } = await run(
      (port) => redirectError(port === 1 ? 'b' : 'a'),
      new ServerList(['a', 'b']),
      2,
    );
    expect(outcome).toMatchObject({ errorType: ErrorType.IO_ERROR });
    expect(asked.length).toBeLessThan(20);
  });

  test('to an empty list fails', async () => {
    const deps = { client: new ScriptedClient(() => 'ok'), resolver, clock: new VirtualClock() };
    const call = callWithRetries(deps, new ServerList([]), time, {}, { triesMax: 2, retryDelayMs: 0 });
    await expect(call).rejects.toThrow('There is no server to ask');
  });
});

describe('a server list', () => {
  test('turns from a server only once when many calls fail there together', () => {
    const servers = new ServerList(['a', 'b', 'c']);
    for (let call = 0; call < 5; call++) servers.advanceFrom('a');
    expect(servers.preferred).toBe('b');
  });

  test('keeps its preferred server when the list changes, if it is still there', () => {
    const servers = new ServerList(['a', 'b']);
    servers.prefer('b');
    servers.replace(['c', 'b']);
    expect(servers.preferred).toBe('b');
    servers.replace(['c', 'd']);
    expect(servers.preferred).toBe('c');
  });
});

function aMapping(fields: Partial<AddressMapping>): AddressMapping {
  const blank = {
    uuid: 'u',
    version: 1,
    protocol: 'pbrpc',
    address: 'h',
    port: 1,
    matchNetwork: '*',
    ttlS: 60,
    uri: '',
  };
  return { ...blank, ...fields };
}

describe('of the mappings of a service', () => {
  const mappings = [
    aMapping({ address: 'tls', protocol: 'pbrpcs' }),
    aMapping({ address: 'near', matchNetwork: '10.1.0.0/16' }),
    aMapping({ address: 'plain' }),
    aMapping({ address: 'udp', protocol: 'pbrpcu' }),
  ];

  test.each([
    ['one whose network this machine is in comes first', ['10.1.2.3'], 'near'],
    ['a machine elsewhere takes the default of its scheme', ['10.2.0.1'], 'plain'],
    ['an IPv6 address is in no IPv4 network', ['::1'], 'plain'],
  ])('%s', (_, local, expected) => {
    expect(chooseMapping(mappings, 'pbrpc', local)?.address).toBe(expected);
  });

  test('the last default is taken when none has our scheme', () => {
    expect(chooseMapping(mappings, 'pbrpcg', [])?.address).toBe('udp');
  });

  test.each(['10.1.0.0/33', '10.1.0.0/-1', '10.1.0.0', 'x/8', '/8', '10.1.0.0/8/8x'])(
    'network %s matches nothing',
    (matchNetwork) => {
      expect(chooseMapping([aMapping({ matchNetwork })], 'pbrpc', ['10.1.0.1'])).toBeUndefined();
    },
  );
});

describe('the resolver', () => {
  function aResolver(answer: (attempt: number) => unknown): {
    found: UuidResolver;
    clock: VirtualClock;
    client: ScriptedClient;
  } {
    const clock = new VirtualClock();
    const client = new ScriptedClient((_, attempt) => answer(attempt));
    const dirs = new ServerList(['dir:32638']);
    const retry = { triesMax: 1, retryDelayMs: 0 };
    return {
      found: new UuidResolver({ clock, client, dirs, scheme: 'pbrpc', retry, localAddresses: [] }),
      clock,
      client,
    };
  }

  test('asks once for many, and again when the time of the mapping is over', async () => {
    const { found, clock, client } = aResolver(() => ({ mappings: [aMapping({ ttlS: 60 })] }));
    await Promise.all([found.resolve('u'), found.resolve('u'), found.resolve('u')]);
    clock.advance(59_000);
    await found.resolve('u');
    expect(client.asked).toHaveLength(1);
    clock.advance(2_000);
    await found.resolve('u');
    expect(client.asked).toHaveLength(2);
  });

  test('uses an address that is out of date when no DIR answers', async () => {
    const { found } = aResolver((attempt) =>
      attempt === 1 ? { mappings: [aMapping({ address: 'old' })] } : ioError('down'),
    );
    await found.resolve('u');
    found.forget('u');
    expect(await found.resolve('u')).toEqual({ host: 'old', port: 1 });
  });

  test('says that a service has no address', async () => {
    const { found } = aResolver(() => ({ mappings: [] }));
    await expect(found.resolve('u')).rejects.toThrow('The DIR knows no address of service u');
  });
});
