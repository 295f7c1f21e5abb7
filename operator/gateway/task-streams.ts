import { STATUS_CODES, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { AuditLog } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import { InvalidInputError } from '#common/errors.ts';
import type { Principal } from '#common/identity/ids.ts';
import { readTaskStream, type TaskStream } from '#common/identity/task-stream.ts';
import type { Logger } from '#common/logger.ts';
import { type ConnectRequest, workMethods } from '#proto/site/schema.ts';
import { exitMessage, remoteProtocols } from '#runtime/remote-channels.ts';
import { Act, addressRate, bearerOf, handleMs, principalRate, refusalBody, refusalOf, throttle } from './acts.ts';
import { CommandSocket, messageBytesMax } from './command-socket.ts';
import { RateLimiter } from './limits.ts';
import type { MemberAccess } from './member-access.ts';
import type { GatewayMetrics } from './metrics.ts';
import { type OpenStream, OpenStreams } from './open-streams.ts';
import { type PeerChannels, PeerError, type PeerErrorReason } from './peers/contract.ts';
import { Refusal } from './refusal.ts';
import type { UpgradeDoor } from './server.ts';
import type { TaskDoor, TaskPlace } from './task-door.ts';

/** What {@link TaskStreams} works with. */
export interface TaskStreamsParts {
  readonly door: TaskDoor;
  readonly access: MemberAccess;
  readonly channels: PeerChannels;
  readonly clock: Clock;
  readonly log: Logger;
  readonly audit: AuditLog;
  readonly metrics: GatewayMetrics;
}

/** What users are told when the gateway stops has this time to arrive, milliseconds. */
const farewellMs = 1_000;
const kinds = { log: 'LOG', exec: 'EXEC', attach: 'ATTACH' } as const;

/**
 * Connects users to the tasks of their jobs that run at other sites: a WebSocket on this side, on which the gateway speaks as an API server does
 * for a pod here, and a call of the gateway of the other site on that (ADR 0167).
 */
export class TaskStreams implements UpgradeDoor {
  private readonly parts: TaskStreamsParts;
  private readonly streams: OpenStreams;
  private readonly byAddress: RateLimiter;
  private readonly byPrincipal: RateLimiter;
  private readonly sockets = new WebSocketServer({
    noServer: true,
    maxPayload: messageBytesMax,
    perMessageDeflate: false,
    handleProtocols: (offered) => remoteProtocols.find((each) => offered.has(each)) ?? false,
  });

  constructor(parts: TaskStreamsParts) {
    this.parts = parts;
    this.streams = new OpenStreams(parts.clock, parts.access.onChange.bind(parts.access));
    this.byAddress = new RateLimiter(parts.clock, addressRate);
    this.byPrincipal = new RateLimiter(parts.clock, principalRate);
  }

  take(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Until it is a WebSocket, nobody else hears of it.
    socket.on('error', () => socket.destroy());
    void this.open(request, socket, head);
  }

  stop(): void {
    this.streams.endAll('The gateway is restarted: connect again.');
    const end = (): void => this.sockets.clients.forEach((socket) => socket.terminate());
    this.parts.clock.after(farewellMs, end, { unref: true });
  }

  private async open(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { log, metrics } = this.parts;
    const act = new Act(request);
    let stream: TaskStream | undefined;
    try {
      throttle(this.byAddress, act.address);
      stream = streamIn(request);
      act.on.VirtualOrganization = stream.virtualOrganization;
      act.on.GridJob = stream.job;
      act.on.Task = String(stream.index);
      const { place, open } = await this.admit(stream, request, act);
      act.on.Site = place.site;
      const taken: WebSocket[] = [];
      this.sockets.handleUpgrade(request, socket, head, (connection) => taken.push(connection));
      const [connection] = taken;
      // The user had gone meanwhile, or speaks something else.
      if (connection === undefined) open.close();
      else void this.carry(connection, { ...place, stream, open, act });
      metrics.requests.inc({ route: `task.${stream.kind}`, code: 'OK' });
    } catch (error) {
      const refusal = refusalOf(error instanceof PeerError ? ofPeer(error) : error, act, log);
      const what = stream === undefined ? 'gateway.request' : `task.${stream.kind}`;
      this.record(act, what, refusal.status >= 500 ? 'Failed' : 'Refused', refusal);
      metrics.requests.inc({ route: stream === undefined ? 'none' : what, code: refusal.code });
      refuse(socket, refusal);
    }
  }

  private async admit(
    stream: TaskStream,
    request: IncomingMessage,
    act: Act,
  ): Promise<{ readonly place: TaskPlace; readonly open: OpenStream }> {
    const { door, access } = this.parts;
    const bearer = bearerOf(request);
    if (bearer === undefined)
      throw new Refusal('Unauthenticated', 'Give the token of a member for the API server: Authorization: Bearer ….');
    const signal = AbortSignal.timeout(handleMs);
    const visitor = await door.enter(stream.virtualOrganization, bearer, signal);
    try {
      const { principal } = visitor;
      act.who = principal;
      throttle(this.byPrincipal, `${principal.issuer} ${principal.subject}`);
      const check = (): PeerError | undefined => {
        const refusal = access.refusal(stream.virtualOrganization, principal);
        return refusal === undefined ? undefined : new PeerError('Refused', refusal.message);
      };
      const refusal = access.refusal(stream.virtualOrganization, principal);
      if (refusal !== undefined) throw refusal;
      const place = await visitor.locate(stream, signal);
      const scopes = { peer: place.site, organization: stream.virtualOrganization, member: JSON.stringify(principal) };
      return { place, open: this.streams.enter(scopes, check) };
    } finally {
      await visitor.leave();
    }
  }

  private async carry(
    connection: WebSocket,
    carried: TaskPlace & { readonly stream: TaskStream; readonly open: OpenStream; readonly act: Act },
  ): Promise<void> {
    const { open, act, site, stream } = carried;
    const socket = new CommandSocket(connection, this.parts.clock);
    const signal = AbortSignal.any([open.signal, socket.gone]);
    this.record(act, `task.${stream.kind}`, 'Allowed');
    try {
      const { channels } = this.parts;
      const requests = requestsOf(carried, socket, open);
      const answers = channels.channel(site).stream(workMethods.Connect, requests, { signal });
      for await (const { stdout, stderr, end } of answers) {
        open.touch();
        if (stdout !== undefined) await socket.say('stdout', stdout);
        else if (stderr !== undefined) await socket.say('stderr', stderr);
        else if (end !== undefined) {
          await socket.finish(exitMessage(end.exitStatus));
          return;
        }
      }
      throw new PeerError('Unreachable', `Site ${site} ended the connection.`);
    } catch (error) {
      if (socket.gone.aborted) return;
      const problem = this.problemOf(open.signal.aborted ? open.signal.reason : error, site, act);
      const refusal = ofPeer(problem);
      this.record(act, `task.${stream.kind}`, problem.reason === 'Refused' ? 'Refused' : 'Failed', refusal);
      const { status: code, message } = refusal;
      await socket.finish({ status: 'Failure', code, message, reason: problem.reason });
    } finally {
      open.close();
    }
  }

  private problemOf(error: unknown, site: string, act: Act): PeerError {
    if (!(error instanceof PeerError)) {
      this.parts.log.error('Stream to another site failed', { id: act.id, Site: site, err: error });
      return new PeerError(
        'Failed',
        `Something is wrong with the gateway: tell the owner of the site, with the number ${act.id}.`,
      );
    }
    if (error.reason === 'Unsupported')
      return new PeerError(
        'Unsupported',
        `The gateway of ${site} is older than this one, and carries no logs or commands of tasks that run: its owner upgrades it.`,
      );
    if (error.reason !== 'Unreachable') return error;
    try {
      this.parts.channels.channel(site);
      return error;
    } catch (cause) {
      // It was cut off, which ended the call.
      return cause instanceof PeerError ? cause : error;
    }
  }

  private record(act: Act, what: string, outcome: 'Allowed' | 'Refused' | 'Failed', refusal?: Refusal): void {
    const { who, on, address: from, id } = act;
    const { reason: why = 'Connected', message, policy } = refusal ?? {};
    this.parts.audit.record({
      who,
      what,
      on: { ...on },
      from,
      id,
      outcome,
      why,
      ...(message === undefined ? {} : { message, policy }),
    });
  }
}

/** @throws {Refusal} when the request is none for a stream. */
function streamIn({ url = '', method }: IncomingMessage): TaskStream {
  try {
    const stream = method === 'GET' ? readTaskStream(url) : undefined;
    if (stream !== undefined) return stream;
  } catch (error) {
    if (error instanceof InvalidInputError) throw new Refusal('InvalidRequest', error.message);
    throw error;
  }
  throw new Refusal('NotFound', 'No connection can be upgraded under this path: see docs/federation.md.');
}

async function* requestsOf(
  { part, principal, stream }: { readonly part: string; readonly principal: Principal; readonly stream: TaskStream },
  socket: CommandSocket,
  open: OpenStream,
): AsyncGenerator<ConnectRequest> {
  const { virtualOrganization, run, index, kind, command, stdin, tty, follow, tailLines = 0, timestamps } = stream;
  yield {
    open: {
      ...{ virtualOrganization, part, run, index, kind: kinds[kind], command: [...command], stdin, tty },
      ...{ issuer: principal.issuer, subject: principal.subject, follow, tailLines, timestamps },
    },
  };
  for await (const input of socket.inputs) {
    open.touch();
    yield input;
  }
}

const codes: Readonly<Record<PeerErrorReason, Refusal['code']>> = {
  Unknown: 'Unavailable',
  Cut: 'Unavailable',
  Unreachable: 'Unavailable',
  Refused: 'Forbidden',
  NotFound: 'NotFound',
  Invalid: 'InvalidRequest',
  Busy: 'TooManyRequests',
  Unsupported: 'Unavailable',
  Failed: 'Unavailable',
};

function ofPeer(error: PeerError): Refusal {
  return new Refusal(codes[error.reason], error.message, { reason: error.reason, cause: error });
}

/** Answers as HTTP, and closes: as an API server, and as every other route, so that each program finds the words it looks for. */
function refuse(socket: Duplex, refusal: Refusal): void {
  const { status: code, message, reason } = refusal;
  const status = { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, message, reason };
  const body = `${JSON.stringify({ ...status, ...refusalBody(refusal) })}\n`;
  const head = [
    `HTTP/1.1 ${code} ${STATUS_CODES[code] ?? ''}`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    'cache-control: no-store',
    'connection: close',
    ...(refusal.retryAfterSeconds === undefined ? [] : [`retry-after: ${refusal.retryAfterSeconds}`]),
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}
