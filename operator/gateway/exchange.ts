/** How requests are read and answers are written: JSON for programs, pages and forms for people. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pageHeaders } from './pages/page.ts';
import { Refusal } from './refusal.ts';

const bodyMaxBytes = 65_536;

/** What a route answers; `why` goes to the audit log. */
export interface RouteAnswer {
  readonly status: number;
  /** Sent as JSON. */
  readonly body?: object | undefined;
  /** Sent as HTML. */
  readonly page?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly why?: string;
}

/** Reads a body of JSON. @throws {Refusal} when it is none, or too large. */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  if (!isOfType(request, 'application/json')) {
    throw new Refusal('InvalidRequest', 'Send JSON, with the header content-type: application/json.');
  }
  const text = await readText(request);
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal('InvalidRequest', 'The body is no JSON.');
  }
}

/** Reads the form of a page. @throws {Refusal} unless it was sent by a page of this gateway. */
export async function readForm(request: IncomingMessage): Promise<Record<string, string>> {
  const { origin = '', host = '' } = request.headers;
  if (
    !URL.canParse(origin) ||
    new URL(origin).host !== host ||
    !isOfType(request, 'application/x-www-form-urlencoded')
  ) {
    throw new Refusal('Forbidden', 'This form was not sent by a page of this gateway: begin at /device.', {
      reason: 'ForeignOrigin',
    });
  }
  return Object.fromEntries(new URLSearchParams(await readText(request)));
}

/** Sends an answer. */
export function send(request: IncomingMessage, response: ServerResponse, answer: RouteAnswer): void {
  const { status, body, page, headers } = answer;
  const json = body === undefined ? '' : `${JSON.stringify(body)}\n`;
  const text = page ?? json;
  // What wasn't read of a body that was refused is not waited for.
  if (!request.complete) response.setHeader('connection', 'close');
  for (const [name, value] of Object.entries(headers ?? {})) response.setHeader(name, value);
  response.writeHead(status, {
    ...(page === undefined ? {} : pageHeaders),
    ...(json === '' ? {} : { 'content-type': 'application/json; charset=utf-8' }),
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(text);
}

function isOfType(request: IncomingMessage, type: string): boolean {
  const [given = ''] = (request.headers['content-type'] ?? '').split(';', 1);
  return given.trim().toLowerCase() === type;
}

async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > bodyMaxBytes) throw new Refusal('TooLarge', `The body is larger than ${bodyMaxBytes} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
