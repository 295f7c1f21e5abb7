/**
 * What the node agent asks of the mount holder, over a socket that only root of the node can open: one request and one answer
 * for each connection, each one line of JSON.
 */
import { z } from 'zod';
import { TerminalError } from '#common/errors.ts';

/** Longest line, bytes. Paths below a kubelet's folder are some hundred bytes long. */
export const lineBytesMax = 65_536;

const path = z.string().min(1).max(4096).startsWith('/', 'use an absolute path');
/** `vol-` and the uid of a Volume; nobody chooses it. */
const volumeName = z.string().regex(/^[A-Za-z0-9][-A-Za-z0-9_.]{0,127}$/, 'use letters, digits, hyphens, dots');
const address = z.strictObject({
  host: z.string().regex(/^[A-Za-z0-9][-A-Za-z0-9_.:]{0,252}$/, 'use a host name or an address'),
  port: z.int().min(1).max(65_535),
});

/** Where a volume is. */
export const volumeSource = z.strictObject({
  scheme: z.enum(['pbrpc', 'pbrpcg', 'pbrpcs']),
  dirs: z.array(address).min(1).max(8),
  volumeName,
  /** Relay through which all servers are reached. */
  relay: address.optional(),
});
export type VolumeSource = z.infer<typeof volumeSource>;

const requests = {
  /** Mounts a volume at a path, once for the node; done when it serves. */
  stage: z.strictObject({ op: z.literal('stage'), source: volumeSource, path }),
  /** Takes such a mount away; done when nothing is under way to servers any more. */
  unstage: z.strictObject({ op: z.literal('unstage'), path }),
  /** Shows a staged volume at another path. `isExclusive`: at this one only. */
  publish: z.strictObject({
    op: z.literal('publish'),
    stagingPath: path,
    path,
    isReadOnly: z.boolean(),
    isExclusive: z.boolean(),
  }),
  /** Takes that away. */
  unpublish: z.strictObject({ op: z.literal('unpublish'), path }),
  /** What is held. */
  list: z.strictObject({ op: z.literal('list') }),
};

/** One request. */
export const holderRequest = z.discriminatedUnion('op', [
  requests.stage,
  requests.unstage,
  requests.publish,
  requests.unpublish,
  requests.list,
]);
export type HolderRequest = z.infer<typeof holderRequest>;
/** How a volume is shown. */
export type PublishTerms = Omit<z.infer<typeof requests.publish>, 'op'>;

/**
 * Why a request was refused:
 * - `Invalid`: the request itself is wrong.
 * - `Conflict`: something else is at the path.
 * - `Busy`: it is in use.
 * - `NotStaged`: the volume has no living mount on this node.
 * - `Unreachable`: the servers do not answer, or do not have the volume.
 * - `NoHolder`: no holder runs on this node.
 * - `Failed`: anything else.
 */
export const holderErrorCodes = [
  'Invalid',
  'Conflict',
  'Busy',
  'NotStaged',
  'Unreachable',
  'NoHolder',
  'Failed',
] as const;
export type HolderErrorCode = (typeof holderErrorCodes)[number];

/** A refusal of the holder, with its reason. */
export class HolderError extends TerminalError {
  override readonly name = 'HolderError';
  readonly code: HolderErrorCode;

  constructor(code: HolderErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

const heldMount = z.strictObject({
  path: z.string(),
  source: z.string(),
  /** Whether requests are answered, as far as the holder knows. */
  isServing: z.boolean(),
  /** How often another process took over. */
  takeovers: z.int(),
  /** Process that serves; 0 while there is none. */
  pid: z.int(),
});
/** One mount of the node. */
export type HeldMount = z.infer<typeof heldMount>;

/** One answer. */
export const holderAnswer = z.discriminatedUnion('isDone', [
  z.strictObject({ isDone: z.literal(true), mounts: z.array(heldMount).optional() }),
  z.strictObject({ isDone: z.literal(false), code: z.enum(holderErrorCodes), message: z.string() }),
]);
export type HolderAnswer = z.infer<typeof holderAnswer>;

/** `xtreemfs@pbrpcs://dir.example:32638/vol-1`, or `…/vol-1@relay.example:7444` for one behind a relay: all that is needed to mount anew, kept by the kernel in its mount table. */
export function sourceText({ scheme, dirs, volumeName: name, relay }: VolumeSource): string {
  const through = relay === undefined ? '' : `@${hostPort(relay)}`;
  return `xtreemfs@${scheme}://${dirs.map(hostPort).join(',')}/${name}${through}`;
}

function hostPort({ host, port }: z.infer<typeof address>): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function readHostPort(text: string): { host: string; port: number } {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
  return { host: bracketed ?? plain ?? '', port: Number(port) };
}

/** Reads what {@link sourceText} wrote; undefined for anything else. */
export function parseSource(text: string): VolumeSource | undefined {
  const [, scheme, hosts, name, relay] = /^xtreemfs@(pbrpc[gs]?):\/\/([^/]+)\/([^/@]+)(?:@([^/@]+))?$/.exec(text) ?? [];
  if (hosts === undefined) return undefined;
  const dirs = hosts.split(',').map(readHostPort);
  const through = relay === undefined ? {} : { relay: readHostPort(relay) };
  const parsed = volumeSource.safeParse({ scheme, dirs, volumeName: name, ...through });
  return parsed.success ? parsed.data : undefined;
}
