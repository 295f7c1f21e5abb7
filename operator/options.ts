import { z } from 'zod';
import { logLevels } from '#common/logger.ts';
import { option, type OptionValues } from '#common/options.ts';
import { parseRange } from './controllers/virtualorganization/address-range.ts';

const milliseconds = (min: number, max: number): z.ZodType<number> =>
  z.coerce
    .number('use a whole number of milliseconds')
    .int('use a whole number of milliseconds')
    .min(min, `use at least ${min}`)
    .max(max, `use at most ${max}`);
const port = z.coerce
  .number('use a port number')
  .int('use a port number')
  .min(0, 'use 0 (any free port) to 65535')
  .max(65_535, 'use 0 (any free port) to 65535');
const label = (maxLength: number): z.ZodType<string> =>
  z
    .string()
    .max(maxLength, `use at most ${maxLength} characters`)
    .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, 'use lower-case letters, digits and hyphens');

const attributeName = /^[a-z][A-Za-z0-9]*([._-][A-Za-z0-9]+)*$/;

/** `country=FR,organization=Example University`. */
const attributes = z.string().transform((text, context): Readonly<Record<string, string>> => {
  const result: Record<string, string> = {};
  for (const pair of text.split(',').filter((part) => part.trim() !== '')) {
    const [, name = '', value] = /^\s*([^=]*?)\s*=\s*(.*?)\s*$/s.exec(pair) ?? [];
    if (value === undefined || !attributeName.test(name) || name.length > 63 || value.length > 253) {
      context.addIssue(
        `${JSON.stringify(pair)} is not name=value (name of at most 63 characters, value of at most 253)`,
      );
      return z.NEVER;
    }
    if (result[name] !== undefined) {
      context.addIssue(`${name} is given twice`);
      return z.NEVER;
    }
    result[name] = value;
  }
  if (result.country !== undefined && !/^[A-Z]{2}$/.test(result.country)) {
    context.addIssue('country must be two capital letters (ISO 3166-1), for example FR');
    return z.NEVER;
  }
  return result;
});

/** `10.244.0.0/16,10.96.0.0/12`. */
const ranges = z.string().transform((text, context): readonly string[] => {
  const result = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  for (const range of result) {
    try {
      parseRange(range);
    } catch {
      context.addIssue(`${JSON.stringify(range)} is no address range such as 10.244.0.0/16`);
      return z.NEVER;
    }
  }
  return result;
});

/** Every option of the operator: flags, `XTREEMOS_…` variables, `--help`, docs/reference and the chart come from here. */
export const operatorOptions = {
  siteName: option({
    schema: label(63),
    about: 'Name of the Site object that stands for this cluster; made when it is missing',
    default: 'local',
    value: 'NAME',
  }),
  siteAttributes: option({
    schema: attributes,
    about: 'Attributes of the Site when it is made, as name=value with commas between; the object is edited afterwards',
    default: '',
    value: 'PAIRS',
  }),
  siteHeartbeatMs: option({
    schema: milliseconds(1000, 3_600_000),
    about: 'How often status.lastSeenTime of the local Site is refreshed, milliseconds',
    default: '60000',
    value: 'MS',
  }),
  reservedRanges: option({
    schema: ranges,
    about:
      'Address ranges, with commas between, that virtual organizations never reach, whatever they declare; nodes, their pod ranges and the API server are known. Name those of pods and services where nodes do not tell them',
    default: '',
    value: 'RANGES',
  }),
  namespace: option({
    schema: label(63),
    about: 'Namespace of the operator, where its Lease lies',
    default: 'xtreemos-system',
    value: 'NAMESPACE',
  }),
  identity: option({
    schema: z.string().max(253, 'use at most 253 characters'),
    about:
      'Name of this process among its replicas, unique; empty takes the name of the host, in a pod that of the pod',
    default: '',
    value: 'NAME',
  }),
  leaderElect: option({
    schema: z.boolean(),
    about: 'Act only while holding the Lease; needed with more than one replica',
    default: 'true',
    isBoolean: true,
  }),
  leaseName: option({
    schema: label(63),
    about: 'Name of the Lease that the replicas compete for',
    default: 'xtreemos-operator',
    value: 'NAME',
  }),
  leaseDurationMs: option({
    schema: milliseconds(3000, 600_000).refine((value) => value % 1000 === 0, 'use whole seconds, such as 15000'),
    about: 'A lease that was not renewed for this time may be taken by another replica, milliseconds',
    default: '15000',
    value: 'MS',
  }),
  stopGraceMs: option({
    schema: milliseconds(0, 600_000),
    about: 'Time that running work gets after SIGTERM, milliseconds',
    default: '20000',
    value: 'MS',
  }),
  metricsPort: option({
    schema: port,
    about: 'TCP port of /metrics; 0 takes any free port',
    default: '8080',
    value: 'PORT',
  }),
  metricsAuth: option({
    schema: z.boolean(),
    about:
      'Serve /metrics over TLS (with a certificate made at the start) and only to bearers of tokens that may get /metrics; off, to everybody in plain HTTP',
    default: 'true',
    isBoolean: true,
  }),
  healthPort: option({
    schema: port,
    about: 'TCP port of /livez and /readyz; 0 takes any free port',
    default: '8081',
    value: 'PORT',
  }),
  gatewayPort: option({
    schema: port,
    about: 'TCP port of the gateway (TLS); 0 takes any free port',
    default: '7443',
    value: 'PORT',
  }),
  gatewayAddress: option({
    schema: z
      .string()
      .max(259, 'use at most 259 characters')
      .regex(
        /^(([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5})?$/,
        'use host:port, for example gateway.example.org:7443',
      ),
    about: 'Host and port under which users reach the gateway; empty: the Service inside the cluster',
    default: '',
    value: 'HOST:PORT',
  }),
  gatewayService: option({
    schema: label(63),
    about: 'Name of the Service in front of the gateway; part of its certificate',
    default: 'xtreemos-gateway',
    value: 'NAME',
  }),
  gatewayServicePort: option({
    schema: port,
    about: 'TCP port of that Service, which pods of this site use',
    default: '7443',
    value: 'PORT',
  }),
  trustDomain: option({
    schema: z
      .string()
      .max(255, 'use at most 255 characters')
      .regex(/^[a-z0-9._-]*$/, 'use lower-case letters, digits, dots, hyphens and underscores'),
    about:
      'Trust domain under which peers know this site (SPIFFE); empty: the name of the site. Peers have to be joined anew when it changes',
    default: '',
    value: 'DOMAIN',
  }),
  apiServerAddress: option({
    schema: z
      .string()
      .max(259, 'use at most 259 characters')
      .regex(/^(https:\/\/[^\s?#]+)?$/, 'use an https URL, for example https://cluster.example.org:6443'),
    about: 'URL of the API server as users reach it, for the credentials of members; empty: as the operator reaches it',
    default: '',
    value: 'URL',
  }),
  selector: option({
    schema: z
      .string()
      .max(259, 'use at most 259 characters')
      .regex(/^(([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5})?$/, 'use host:port, for example 127.0.0.1:7946'),
    about: 'Host and port of the selector that finds nodes for jobs; empty: no jobs are served',
    default: '',
    value: 'HOST:PORT',
  }),
  selectorTls: option({
    schema: z.string().max(4096, 'use at most 4096 characters'),
    about: 'Folder with tls.crt, tls.key and ca.crt for talking to selectors',
    default: '/etc/xtreemos/selector',
    value: 'DIR',
  }),
  image: option({
    schema: z.string().max(512, 'use at most 512 characters'),
    about: 'Image of the product, for the servers of FileSystems; empty: no FileSystem and no Volume is served',
    default: '',
    value: 'IMAGE',
  }),
  certificateIssuer: option({
    schema: label(63),
    about:
      'Issuer of cert-manager, in the namespace of the operator, that makes the certificates of servers of FileSystems',
    default: 'xtreemos-ca',
    value: 'NAME',
  }),
  storageTls: option({
    schema: z.string().max(4096, 'use at most 4096 characters'),
    about: 'Folder with tls.crt, tls.key and ca.crt for talking to the servers of FileSystems',
    default: '/etc/xtreemos/storage',
    value: 'DIR',
  }),
  relayTls: option({
    schema: z.string().max(4096, 'use at most 4096 characters'),
    about:
      'Folder with tls.crt, tls.key and ca.crt of the relay of volumes: what it shows to node agents and to the servers of FileSystems',
    default: '/etc/xtreemos/relay',
    value: 'DIR',
  }),
  relayPort: option({
    schema: port,
    about: 'Port where node agents reach volumes that other sites keep; 0 takes any free one',
    default: '7444',
    value: 'PORT',
  }),
  kubeconfig: option({
    schema: z.string().max(4096, 'use at most 4096 characters'),
    about: 'Path of a kubeconfig file; empty uses the account of the pod, or else KUBECONFIG',
    default: '',
    value: 'PATH',
  }),
  logLevel: option({
    schema: z.enum(logLevels, `use one of ${logLevels.join(', ')}`),
    about: `How much is logged: ${logLevels.join(', ')}`,
    default: 'info',
    value: 'LEVEL',
  }),
} as const;

/** The values of the operator's options. */
export type OperatorOptions = OptionValues<typeof operatorOptions>;
