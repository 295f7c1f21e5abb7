import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { describeError, InvalidInputError } from '#common/errors.ts';
import { logLevels } from '#common/logger.ts';
import { option } from '#common/options.ts';
import { checkAttributes, type Attributes } from '#proto/selector/attributes.ts';

const address = z.string().regex(/^.{1,253}:\d{1,5}$/, 'write HOST:PORT');
/** `fd00::1:7946`, as an address of a pod and a port are joined, becomes `[fd00::1]:7946`. */
const withBrackets = (text: string): string => text.replace(/^([^[\]]*:[^[\]]*):(\d+)$/, '[$1]:$2');
const list = z.string().transform((text) =>
  text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== ''),
);
const count = (most: number): z.ZodType<number> => z.coerce.number().int('use a whole number').min(0).max(most);

/** Options of the `selector` program. */
export const selectorOptions = {
  site: option({ schema: z.string().min(1).max(253), about: 'Name of the site this node belongs to', value: 'NAME' }),
  node: option({ schema: z.string().min(1).max(253), about: 'Name of this node, unique in its site', value: 'NAME' }),
  listen: option({ schema: address, about: 'Where to listen for gRPC', default: '0.0.0.0:7946', value: 'HOST:PORT' }),
  advertise: option({
    schema: z.string().transform(withBrackets),
    about: 'Where peers reach this node; port 0 stands for the port listened on',
    value: 'HOST:PORT',
  }),
  peers: option({
    schema: list,
    about: 'Peers to join through, HOST:PORT with commas; a name stands for all its addresses and is looked up again',
    default: '',
    value: 'LIST',
  }),
  kubernetes: option({
    schema: z.boolean(),
    about:
      'Take attributes, resources, pods and the accepted virtual organizations from the Kubernetes API (--node names the Node, --site the Site) and keep claims there',
    default: 'false',
    isBoolean: true,
  }),
  hostedNodes: option({
    schema: z.string().max(1024, 'use at most 1024 characters'),
    about:
      'With --kubernetes: keep the account of every Node with these labels (a label selector) instead of one; for nodes without a machine of their own, such as those of kwok. Listen on port 0',
    default: '',
    value: 'LABELS',
  }),
  kubeconfig: option({
    schema: z.string().max(4096, 'use at most 4096 characters'),
    about: 'Path of a kubeconfig file; empty uses the account of the pod, or else KUBECONFIG',
    default: '',
    value: 'PATH',
  }),
  namespace: option({
    schema: z.string().min(1).max(63),
    about: 'With --kubernetes: namespace of the operator, where the leases of other sites lie',
    default: 'xtreemos-system',
    value: 'NAME',
  }),
  attributes: option({
    schema: z.string(),
    about: 'Without --kubernetes: static attributes as NAME=VALUE with commas, or @FILE with a JSON object',
    default: '',
    value: 'LIST',
  }),
  allocatable: option({
    schema: z.string(),
    about:
      'Without --kubernetes: what the node has to give, NAME=AMOUNT with commas: cpu in millicores, memory in bytes',
    default: '',
    value: 'LIST',
  }),
  offers: option({
    schema: z.boolean(),
    about: 'Offer this node to queries; turn off for a member that only asks',
    default: 'true',
    isBoolean: true,
  }),
  virtualOrganizations: option({
    schema: list,
    about: 'Without --kubernetes: virtual organizations that may have this node, with commas; * is every one',
    default: '*',
    value: 'LIST',
  }),
  tlsCertificate: option({ schema: z.string().min(1), about: 'Certificate chain, PEM', value: 'PATH' }),
  tlsKey: option({ schema: z.string().min(1), about: 'Private key of the certificate, PEM', value: 'PATH' }),
  tlsCa: option({
    schema: z.string().min(1),
    about: 'Certificates that peers and clients must stem from, PEM',
    value: 'PATH',
  }),
  siteKey: option({ schema: z.string().min(1), about: "The site's Ed25519 private key, PEM (PKCS #8)", value: 'PATH' }),
  siteTrust: option({
    schema: z.string().min(1),
    about: 'Folder with the Ed25519 public key, or certificate, of each trusted site in SITE.pem',
    value: 'PATH',
  }),
  monitor: option({
    schema: address,
    about: 'Where to serve the monitor pages over HTTP; port 0 chooses one',
    default: '127.0.0.1:7947',
    value: 'HOST:PORT',
  }),
  healthPort: option({
    schema: count(65_535),
    about: 'TCP port of /livez and /readyz; 0 takes any free port',
    default: '8081',
    value: 'PORT',
  }),
  gossipPeriodMs: option({
    schema: count(600_000).refine((value) => value >= 100, 'at least 100'),
    about: 'Time between two gossip rounds in milliseconds',
    default: '10000',
    value: 'MS',
  }),
  logLevel: option({ schema: z.enum(logLevels), about: 'How much to log', default: 'info', value: 'LEVEL' }),
};

/**
 * Reads `NAME=VALUE,…` or `@FILE`. A value that is a number is one.
 * @throws {InvalidInputError} naming the part that can't be read.
 */
export function readAttributes(text: string): Attributes {
  const attributes = text.startsWith('@') ? readJson(text.slice(1)) : readPairs(text, '--attributes');
  checkAttributes(attributes, '--attributes');
  return attributes;
}

/** Reads `NAME=AMOUNT,…`. @throws {InvalidInputError} on an amount that is no number. */
export function readResources(text: string): Record<string, number> {
  const resources: Record<string, number> = {};
  for (const [name, value] of Object.entries(readPairs(text, '--allocatable'))) {
    if (typeof value !== 'number') throw new InvalidInputError('--allocatable', `${name}: ${value} is no number`);
    resources[name] = value;
  }
  return resources;
}

function readPairs(text: string, flag: string): Record<string, number | string> {
  const pairs: Record<string, number | string> = {};
  for (const part of text.split(',').filter((piece) => piece.trim() !== '')) {
    const at = part.indexOf('=');
    if (at < 1) throw new InvalidInputError(flag, `${JSON.stringify(part)} is not NAME=VALUE`);
    const value = part.slice(at + 1).trim();
    pairs[part.slice(0, at).trim()] = value !== '' && Number.isFinite(Number(value)) ? Number(value) : value;
  }
  return pairs;
}

function readJson(path: string): Attributes {
  try {
    const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return z.record(z.string(), z.union([z.number(), z.string()])).parse(parsed);
  } catch (error) {
    throw new InvalidInputError('--attributes', `can not read ${path} as a JSON object of numbers and words`, {
      cause: new Error(describeError(error)),
    });
  }
}
