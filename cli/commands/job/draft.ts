/** A GridJob from the words of a command line. Pure: the server checks what it means. */
import { randomBytes } from 'node:crypto';
import { InvalidInputError } from '#common/errors.ts';
import type { GridJob, GridJobSpec } from '#crds/grid-job.ts';

/** Options that describe nodes, shared by jobs and reservations. */
export interface NeedsInput {
  readonly cpu: string | undefined;
  readonly memory: string | undefined;
  readonly device: readonly string[];
  readonly require: readonly string[];
  readonly where: readonly string[];
  readonly rank: string | undefined;
  readonly site: readonly string[];
  readonly spread: boolean;
}

/** Options of `xos run` and `xos sub` that describe a job. */
export interface DraftInput extends NeedsInput {
  readonly image: string | undefined;
  readonly command: readonly string[];
  readonly name: string | undefined;
  readonly env: readonly string[];
  readonly workingDir: string | undefined;
  readonly tasks: number;
  readonly parallelism: number | undefined;
  readonly gang: number | undefined;
  readonly volume: readonly string[];
  readonly stdin: string | undefined;
  readonly stdout: string | undefined;
  readonly stderr: string | undefined;
  readonly after: readonly string[];
  readonly reservation: string | undefined;
  readonly preemptible: boolean;
  readonly priority: number | undefined;
  readonly retries: number | undefined;
  readonly deadline: number | undefined;
  readonly ttl: number | undefined;
  readonly grace: number | undefined;
  readonly interactive: boolean;
  readonly gridAccess: boolean;
}

/** Names of jobs have at most 52 characters; a suffix of six is added. */
const baseMax = 40;

/** The job that the options describe, without its namespace. @throws {InvalidInputError} naming the option. */
export function draftJob(input: DraftInput, image: string): Pick<GridJob, 'metadata' | 'spec'> {
  const { tasks, parallelism, gang } = input;
  const spec = {
    tasks: defined({ count: tasks, parallelism, gangMinimum: gang }),
    template: templateOf(input, image),
    ...needsOf(input),
    ...jobOptions(input),
  };
  // What is left out gets its default from the schema, at the server.
  return {
    metadata: { name: input.name ?? nameFrom(input.command[0] ?? image) },
    spec: spec as unknown as GridJobSpec,
  };
}

function templateOf(input: DraftInput, image: string): object {
  const { command, env, workingDir, grace } = input;
  return defined({
    image,
    command: command.length === 0 ? undefined : command,
    env: env.length === 0 ? undefined : env.map(parseVariable),
    workingDir,
    resources: resourcesOf(input),
    terminationGraceSeconds: grace,
  });
}

/** What one task or slot takes. */
export function resourcesOf({
  cpu,
  memory,
  device,
}: Pick<NeedsInput, 'cpu' | 'memory' | 'device'>): object | undefined {
  const devices = device.length === 0 ? undefined : device.map(parseDevice);
  const resources = defined({ cpu, memory, devices });
  return Object.keys(resources).length === 0 ? undefined : resources;
}

/** `requirements`, `rank` and `placement`. */
export function needsOf({
  require,
  where,
  rank,
  site,
  spread,
}: Omit<NeedsInput, 'cpu' | 'memory' | 'device'>): Record<string, unknown> {
  return defined({
    requirements:
      require.length + where.length === 0 ? undefined : { static: parseRequirements(require), dynamic: where },
    rank,
    placement:
      site.length === 0 && !spread
        ? undefined
        : defined({ sites: site.length === 0 ? undefined : { in: site }, spread: spread ? 'Spread' : undefined }),
  });
}

function jobOptions(input: DraftInput): object {
  const { volume, after, reservation, preemptible, priority, retries, deadline, ttl, interactive, gridAccess } = input;
  return defined({
    volumes: volume.length === 0 ? undefined : volume.map(parseMount),
    stdin: fileOf(input.stdin, '--stdin'),
    stdout: fileOf(input.stdout, '--stdout'),
    stderr: fileOf(input.stderr, '--stderr'),
    dependsOn: after.length === 0 ? undefined : after.map(parseDependency),
    reservation,
    preemptible: preemptible ? true : undefined,
    priority,
    retries: retries === undefined ? undefined : { limit: retries },
    deadlineSeconds: deadline,
    ttlSecondsAfterFinished: ttl,
    interactive: interactive ? true : undefined,
    gridAccess: gridAccess ? true : undefined,
  });
}

/** A name that is free with near certainty: that of the program, and a few random letters. */
export function nameFrom(program: string, suffix = randomBytes(3).toString('hex')): string {
  const last = program.split('/').at(-1)?.split(/[:@]/)[0] ?? '';
  const base = last
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^[^a-z]+/, '')
    .slice(0, baseMax)
    .replace(/-+$/, '');
  return `${base === '' ? 'job' : base}-${suffix}`;
}

const whens = ['Succeeded', 'Failed', 'Started', 'Ended'];

function parseDependency(text: string): object {
  const [job = '', when, ...rest] = text.split(':');
  const found = when === undefined ? undefined : whens.find((one) => one.toLowerCase() === when.toLowerCase());
  if (job === '' || rest.length > 0 || (when !== undefined && found === undefined)) {
    throw new InvalidInputError(
      '--after',
      `${JSON.stringify(text)} is not JOB or JOB:WHEN with WHEN one of ${whens.join(', ')}`,
    );
  }
  return defined({ job, when: found });
}

function parseVariable(text: string): object {
  const at = text.indexOf('=');
  if (at <= 0) throw new InvalidInputError('--env', `${JSON.stringify(text)} is not NAME=VALUE`);
  return { name: text.slice(0, at), value: text.slice(at + 1) };
}

function parseDevice(text: string): object {
  const [resource = '', count = '1', ...rest] = text.split('=');
  if (!resource.includes('/') || rest.length > 0 || !/^[1-9][0-9]{0,3}$/.test(count)) {
    throw new InvalidInputError('--device', `${JSON.stringify(text)} is not DOMAIN/RESOURCE or DOMAIN/RESOURCE=COUNT`);
  }
  return { resource, count: Number(count) };
}

function parseMount(text: string): object {
  const [volume = '', mountPath = '', mode, ...rest] = text.split(':');
  const isKnown = mode === undefined || mode === 'ro' || mode === 'rw';
  if (volume === '' || !mountPath.startsWith('/') || !isKnown || rest.length > 0) {
    throw new InvalidInputError('--volume', `${JSON.stringify(text)} is not VOLUME:/PATH or VOLUME:/PATH:ro`);
  }
  const [name = '', ...subPath] = volume.split('/');
  return defined({
    volume: name,
    mountPath,
    readOnly: mode === 'ro' ? true : undefined,
    subPath: subPath.length === 0 ? undefined : subPath.join('/'),
  });
}

function fileOf(text: string | undefined, flag: string): object | undefined {
  if (text === undefined) return undefined;
  const at = text.indexOf(':');
  if (at <= 0 || at === text.length - 1) {
    throw new InvalidInputError(flag, `${JSON.stringify(text)} is not VOLUME:PATH, for example results:logs/%t.txt`);
  }
  return { volume: text.slice(0, at), path: text.slice(at + 1) };
}

interface Constraint {
  readonly attribute: string;
  min?: string;
  max?: string;
  in?: string[];
  notIn?: string[];
}

/** `arch=amd64,arm64`, `site.country!=US`, `memory>=16Gi`, `cpu.cores<=64`; two for one attribute make a range. */
export function parseRequirements(texts: readonly string[]): object[] {
  const found = new Map<string, Constraint>();
  for (const text of texts) {
    const [, attribute, sign, value] = /^([A-Za-z0-9._/-]+)(>=|<=|!=|=)(.+)$/s.exec(text) ?? [];
    if (attribute === undefined || sign === undefined || value === undefined) {
      const forms = 'arch=amd64, arch=amd64,arm64, site.country!=US, memory>=16Gi or cpu.cores<=64';
      throw new InvalidInputError('--require', `${JSON.stringify(text)} is no requirement: write it like ${forms}`);
    }
    const constraint = found.get(attribute) ?? { attribute };
    found.set(attribute, constraint);
    if (sign === '>=') constraint.min = value;
    else if (sign === '<=') constraint.max = value;
    else if (sign === '=') constraint.in = value.split(',');
    else constraint.notIn = value.split(',');
  }
  return [...found.values()];
}

/** Without the fields that nobody set. */
function defined(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
