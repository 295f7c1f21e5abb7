/** Requests to the gateway of a site: HTTPS with the roots of that site alone, JSON, bounded in time and size. */
import { X509Certificate } from 'node:crypto';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import type { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import { errorAnswer } from '#common/identity/gateway-api.ts';
import { CommandError, type ExitReason } from '../frame/exit.ts';

const timeoutMs = 30_000;
const answerBytesMax = 2 * 1024 * 1024;
/** Real chains have two or three. */
const chainLengthMax = 8;
/** A gateway that can't reach its API server says 503 and when to come again; one that ends breaks its connections, and another answers soon. */
const attemptsMax = 4;
/** The user is told of a longer wait; it isn't waited for. */
const retryAfterSecondsMax = 2;
/** How a connection ends where somebody dies at the moment. */
const brokenCodes = new Set(['ECONNRESET', 'EPIPE']);
/** Requests that do harm when they are carried out twice: an invitation is good once, and so is the name of a job. */
const onceOnly: readonly unknown[] = ['POST /v1/peers', 'POST /v1/jobs'];

/** Where a gateway is and what vouches for it. */
export interface GatewayAddress {
  /** `host:port`. */
  readonly address: string;
  /** PEM. */
  readonly caBundle: string;
}

/** How the caller shows who they are to the gateway. */
export interface GatewayIdentity {
  readonly bearer?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** An answer below 400. */
export interface GatewayAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** What came back, whatever its status. */
interface Exchanged extends GatewayAnswer {
  /** Seconds; undefined where the gateway names none. */
  readonly retryAfterSeconds: number | undefined;
}

/** Sends requests; tests bring their own. */
export interface Gateway {
  send(method: string, path: string, body: unknown, identity: GatewayIdentity): Promise<GatewayAnswer>;
}

/** A refusal with the code that programs compare. */
export class GatewayError extends CommandError {
  readonly code: string;
  constructor(reason: ExitReason, code: string, message: string, remedy?: string) {
    super(reason, message, remedy);
    this.code = code;
  }
}

/**
 * The gateway at an address. A request that it answers with «unavailable, try again soon», or not at all, is sent again, a few times
 * (common/identity/gateway-api.ts).
 */
export function gatewayAt(gateway: GatewayAddress, userAgent: string, clock: Clock, signal?: AbortSignal): Gateway {
  const { hostname, port } = new URL(`https://${gateway.address}`);
  return {
    send: async (method, path, body, identity) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const options: RequestOptions = {
        // A bracketed IPv6 address loses its brackets here, as node:https wants it.
        host: hostname.replace(/^\[|\]$/g, ''),
        port: port === '' ? 443 : Number(port),
        path,
        method,
        ca: gateway.caBundle,
        minVersion: 'TLSv1.2',
        ...(identity.cert === undefined ? {} : { cert: identity.cert, key: identity.key }),
        ...(signal === undefined ? {} : { signal }),
        headers: {
          accept: 'application/json',
          'user-agent': userAgent,
          ...(identity.bearer === undefined ? {} : { authorization: `Bearer ${identity.bearer}` }),
          ...(text === undefined ? {} : { 'content-type': 'application/json' }),
        },
      };
      for (let attempt = 1; ; attempt++) {
        const answer = await exchange(options, text, gateway.address);
        if (!(answer instanceof Error) && answer.status < 400) return answer;
        const waitSeconds = answer instanceof Error ? 1 : answer.status === 503 ? answer.retryAfterSeconds : undefined;
        if (waitSeconds === undefined || waitSeconds > retryAfterSecondsMax || attempt === attemptsMax)
          throw answer instanceof Error ? answer : refusal(answer);
        await clock.sleep(waitSeconds * 1000, signal);
      }
    },
  };
}

/** The answer in its shape. @throws {CommandError} when it has another: gateway and program are of different versions. */
export function parseAnswer<T>(schema: z.ZodType<T>, { body }: GatewayAnswer): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`;
  throw new CommandError('failure', `The gateway's answer is not understood (${where})`, 'Use the xos of its version.');
}

/** A fingerprint without what people write it with: 64 hexadecimal digits in lower case. */
export function plainFingerprint(text: string): string {
  return text
    .replace(/^sha256:/i, '')
    .replaceAll(':', '')
    .toLowerCase();
}

/**
 * Certificate chain of a gateway that nothing vouches for yet, for a user who got the fingerprint of its root by another
 * way.
 * @returns the certificate of the chain with this fingerprint, PEM.
 * @throws {CommandError} when none has it.
 */
export async function certificateByFingerprint(address: string, fingerprint: string): Promise<string> {
  const wanted = plainFingerprint(fingerprint);
  const { hostname, port } = new URL(`https://${address}`);
  const chain = await chainOf(hostname.replace(/^\[|\]$/g, ''), port === '' ? 443 : Number(port));
  const found = chain.find((one) => plainFingerprint(one.fingerprint256) === wanted);
  if (found !== undefined) return found.toString();
  const shown = chain.map((one) => one.fingerprint256).join(', ');
  throw new CommandError(
    'credentials',
    `No certificate of ${address} has the fingerprint given; it shows ${shown}`,
    'Ask the owner of the site for the fingerprint; do not copy it from this message.',
  );
}

async function chainOf(host: string, port: number): Promise<X509Certificate[]> {
  return new Promise((resolve, reject) => {
    // Not trusted: the fingerprint decides. Nothing is sent on this connection.
    const socket = connect({ host, port, servername: host, rejectUnauthorized: false, timeout: timeoutMs }, () => {
      const chain: X509Certificate[] = [];
      // The last one is its own issuer, or has none when the server left out the root.
      let peer: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
      while (isThere(peer) && chain.length < chainLengthMax) {
        chain.push(new X509Certificate(peer.raw));
        const issuer: DetailedPeerCertificate | undefined = peer.issuerCertificate;
        peer = issuer === peer ? undefined : issuer;
      }
      socket.destroy();
      resolve(chain);
    });
    const fail = (error: unknown): void => {
      socket.destroy();
      reject(unreachable(`${host}:${port}`, error));
    };
    socket.on('error', fail).on('timeout', () => fail(new Error('no answer')));
  });
}

/** Node gives an empty object where there is no certificate. */
function isThere(peer: DetailedPeerCertificate | undefined): peer is DetailedPeerCertificate {
  return peer !== undefined && Object.keys(peer).length > 0;
}

/** @returns what came back; an error when the connection was refused or broke. @throws {CommandError} for any other failure. */
async function exchange(
  options: RequestOptions,
  body: string | undefined,
  address: string,
): Promise<Exchanged | Error> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error & { code?: string }): void => {
      const isBroken =
        brokenCodes.has(error.code ?? '') && !onceOnly.includes(`${options.method ?? ''} ${options.path ?? ''}`);
      if (isBroken || error.code === 'ECONNREFUSED') resolve(unreachable(address, error));
      else reject(unreachable(address, error));
    };
    const request = httpsRequest({ ...options, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > answerBytesMax) request.destroy(new Error(`the answer is larger than ${answerBytesMax} bytes`));
        else chunks.push(chunk);
      });
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        const retryAfter = /^\d{1,6}$/.exec(response.headers['retry-after'] ?? '')?.[0];
        resolve({
          status: response.statusCode ?? 0,
          body: parseJson(text),
          retryAfterSeconds: retryAfter === undefined ? undefined : Number(retryAfter),
        });
      });
      response.on('error', fail);
    });
    const timer = setTimeout(() => request.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    request.on('error', fail);
    request.on('close', () => clearTimeout(timer));
    request.end(body);
  });
}

function parseJson(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refusal({ status, body }: GatewayAnswer): GatewayError {
  const parsed = errorAnswer.safeParse(body);
  if (!parsed.success)
    return new GatewayError('failure', 'InternalError', `The gateway answered with status ${status}`);
  const { code, message, policy } = parsed.data.error;
  const rule = policy === undefined ? '' : ` (rule ${policy})`;
  return new GatewayError(reasonOf(code), code, `${message}${rule}`, remedyOf(code));
}

function reasonOf(code: string): ExitReason {
  switch (code) {
    case 'Unauthenticated':
    case 'SessionEnded':
    case 'LoginExpired':
    case 'LoginRefused':
      return 'credentials';
    case 'Forbidden':
    case 'AcceptableUseRequired':
      return 'forbidden';
    case 'NotFound':
      return 'notFound';
    default:
      return 'failure';
  }
}

function remedyOf(code: string): string | undefined {
  if (code === 'SessionEnded' || code === 'LoginExpired') return 'Log in again: xos login';
  if (code === 'AcceptableUseRequired') return 'Read and accept it: xos vo accept-use VO';
  return undefined;
}

function unreachable(address: string, error: unknown): Error {
  if (error instanceof Error && error.name === 'AbortError') return error;
  const text = describeError(error);
  const isTrust = /certificate|self-signed|altnames/i.test(text);
  const remedy = isTrust
    ? 'The site may have new certificates: log in again with xos login, so that its roots are read anew.'
    : 'Check that the site is up and its gateway can be reached from here.';
  return new CommandError('failure', `The gateway ${address} does not answer: ${text}`, remedy, { cause: error });
}
