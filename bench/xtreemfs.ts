/**
 * What a mount of XtreemFS does, beside upstream's and a local directory on the same disk in the same run
 * (`make bench-xtreemfs`; root and /dev/fuse). Upstream's programs are given by `XTREEMOS_UPSTREAM_BIN` (folder with
 * mount.xtreemfs) and `XTREEMOS_UPSTREAM_JAR` (xtreemfs.jar); without them its figures are null. Every maker has a DIR,
 * an MRC, two OSDs and a mount with the options that it ships with. Figures count on a quiet machine only.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { describeError } from '#common/errors.ts';
import {
  hasUpstreamClient,
  hasUpstreamServers,
  type Maker,
  MixedInstallation,
} from '../e2e/interop/mixed-installation.ts';
import { type Measure, measuresOf } from './xtreemfs-measures.ts';

const run = promisify(execFile);

const { values: options } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    files: { type: 'string', default: '5000' },
    ops: { type: 'string', default: '16000' },
    rows: { type: 'string', default: '' },
  },
});

interface Row {
  readonly row: string;
  readonly unit: string;
  readonly ours: number | null;
  readonly upstream: number | null;
  readonly local: number | null;
}

/** One maker's installation, with a volume on one OSD and one on two. */
interface System {
  readonly maker: Maker;
  readonly installation: MixedInstallation;
  readonly folders: Readonly<Record<1 | 2, string>>;
}

async function startSystem(maker: Maker): Promise<System> {
  const installation = await MixedInstallation.start(maker, maker, [maker, maker]);
  const folders = { 1: '', 2: '' };
  for (const width of [1, 2] as const) {
    const volume = `width${width}`;
    await installation.tool(maker, 'mkfs.xtreemfs', `-a POSIX -m 777 -p RAID0 -s 128 -w ${width}`, volume);
    folders[width] = await installation.mount(maker, volume, maker === 'ours' ? [] : ['-o', 'user_xattr']);
  }
  return { maker, installation, folders };
}

/** Processes by the names of the figure: the busier OSD, and the mount of the volume on one OSD. */
function processesOf({ maker, installation, folders }: System): Record<'dir' | 'mrc' | 'osd' | 'mount', number> {
  const pidOf = (uuid: string): number => installation.servers.find((server) => server.uuid === uuid)?.child.pid ?? 0;
  const mount = installation.mounts.find(({ path }) => path === folders[1])?.child.pid ?? 0;
  const osds = ['osd-0', 'osd-1'].map(pidOf).sort((a, b) => cpuSeconds(b) - cpuSeconds(a));
  return {
    dir: pidOf('dir'),
    mrc: pidOf('mrc'),
    osd: osds[0] ?? 0,
    // Of ours the keeper was started; the process that works is its child.
    mount: maker === 'ours' ? (childOf(mount) ?? mount) : mount,
  };
}

function childOf(parent: number): number | undefined {
  const found = readdirSync('/proc').find((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return statFields(Number(name))[1] === String(parent);
    } catch {
      return false;
    }
  });
  return found === undefined ? undefined : Number(found);
}

/** Fields of /proc/PID/stat behind the name: state, parent and so on. */
const statFields = (pid: number): string[] =>
  (readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1] ?? '').split(' ');

const ticksPerSecond = 100;

function cpuSeconds(pid: number): number {
  const fields = statFields(pid);
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

const residentMb = (pid: number): number =>
  Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024);

const round = (value: number): number => Number(value.toPrecision(4));

function tell(row: Row): Row {
  const shown = (value: number | null): string => (value === null ? '-' : String(value)).padStart(10);
  console.log(`${row.row.padEnd(52)}${shown(row.ours)}${shown(row.upstream)}${shown(row.local)}  ${row.unit}`);
  return row;
}

async function measureRows(measures: readonly Measure[], systems: readonly System[], local: string): Promise<Row[]> {
  const rows: Row[] = [];
  console.log(`${''.padEnd(52)}      ours  upstream     local`);
  for (const one of measures) {
    const { row, unit, width } = one;
    const figures: Partial<Record<Maker, number>> = {};
    for (const { maker, folders } of systems) {
      try {
        figures[maker] = round(await one.measure(folders[width]));
      } catch (error) {
        // Upstream refuses some writes when several threads have a file open: its row stays empty.
        if (maker === 'ours') throw error;
        console.log(`${row}: ${maker} failed: ${describeError(error)}`);
      }
    }
    const here = round(await one.measure(local));
    rows.push(tell({ row, unit, ours: figures.ours ?? null, upstream: figures.upstream ?? null, local: here }));
  }
  return rows;
}

/** Runs another bench and takes its figure. */
async function figureOf(
  bench: string,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<unknown> {
  const program = new URL(bench, import.meta.url).pathname;
  const { stdout } = await run(process.execPath, [program, ...args], { env: { ...process.env, ...env } });
  const line = stdout.split('\n').findLast((text) => text.startsWith('figure: ')) ?? 'figure: {}';
  return JSON.parse(line.slice('figure: '.length));
}

interface RpcFigure {
  readonly rows: readonly {
    readonly call: string;
    readonly payloadBytes: number;
    readonly depth: number;
    readonly perSecond: number;
  }[];
}
interface FailoverFigure {
  readonly replicated_write_mib_s: { readonly depth1: number; readonly depth8: number };
  readonly failover_planned_s: number;
  readonly failover_crash_s: number;
}

/** Rows that have no counterpart in a mount of upstream's or a local directory. */
function ownRows(rpc: RpcFigure, failover: FailoverFigure): Row[] {
  const own = (row: string, unit: string, ours: number): Row => tell({ row, unit, ours, upstream: null, local: null });
  return [
    ...rpc.rows
      .filter(({ payloadBytes }) => payloadBytes < 128 * 1024)
      .map(({ call, payloadBytes, depth, perSecond }) =>
        own(`RPC ${call} of ${payloadBytes} B, depth ${depth}`, 'round trips/s', perSecond),
      ),
    own('replicated write, 3 replicas, depth 1', 'MiB/s', failover.replicated_write_mib_s.depth1),
    own('replicated write, 3 replicas, depth 8', 'MiB/s', failover.replicated_write_mib_s.depth8),
    own('fail-over, planned', 's', failover.failover_planned_s),
    own('fail-over, crash', 's', failover.failover_crash_s),
  ];
}

function cpuRows(systems: readonly System[]): Row[] {
  const seconds = (maker: Maker, name: 'dir' | 'mrc' | 'osd' | 'mount'): number | null => {
    const system = systems.find((one) => one.maker === maker);
    return system === undefined ? null : round(cpuSeconds(processesOf(system)[name]));
  };
  return (['dir', 'mrc', 'osd', 'mount'] as const).map((name) =>
    tell({
      row: `CPU time since its start, ${name}`,
      unit: 's',
      ours: seconds('ours', name),
      upstream: seconds('upstream', name),
      local: null,
    }),
  );
}

const scratch = mkdtempSync(join(process.env.BENCH_FOLDER ?? tmpdir(), 'xtreemfs-bench-'));
const local = join(scratch, 'local');
mkdirSync(local);
// Packages that this project is built with stand for a source tree.
const names = ['typescript-eslint', '@typescript-eslint'];
const tar = join(scratch, 'tree.tar');
await run('tar', ['-cf', tar, '-C', new URL('../node_modules', import.meta.url).pathname, ...names]);
const measures = measuresOf({
  fileMib: Number(options.mib),
  files: Number(options.files),
  randomOps: Number(options.ops),
  tree: { tar, names },
}).filter(({ row }) => new RegExp(options.rows).test(row));
console.log(
  `Load before: ${loadavg()
    .map((load) => load.toFixed(1))
    .join(' ')}`,
);
const systems: System[] = [];
const rows: Row[] = [];
const memory: Record<string, number> = {};
const stop = async (): Promise<void> => {
  for (const { installation } of systems.splice(0)) await installation.stop();
  rmSync(scratch, { recursive: true, force: true });
};
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void stop().then(() => process.exit(1)));
try {
  systems.push(await startSystem('ours'));
  if (hasUpstreamClient && hasUpstreamServers) systems.push(await startSystem('upstream'));
  else console.log('Upstream: skipped, XTREEMOS_UPSTREAM_BIN and XTREEMOS_UPSTREAM_JAR are not given');
  rows.push(...(await measureRows(measures, systems, local)), ...cpuRows(systems));
  for (const system of systems) {
    const resident = Object.entries(processesOf(system)).map(([name, pid]) => [name, residentMb(pid)] as const);
    console.log(`Resident memory, ${system.maker}: ${resident.map(([name, mb]) => `${name} ${mb} MB`).join(', ')}`);
    if (system.maker === 'ours') for (const [name, mb] of resident) memory[name] = mb;
  }
} finally {
  await stop();
}
const rpc = (await figureOf('./xtreemfs-rpc.ts', [], { XTREEMOS_BENCH_SECONDS: '1' })) as RpcFigure;
const mrc = (await figureOf('./xtreemfs-mrc.ts', ['--quick'])) as { readonly creates_per_s_many: number };
const failover = (await figureOf('./xtreemfs-osd-failover.ts')) as FailoverFigure;
rows.push(...ownRows(rpc, failover));
console.log(
  `Load after: ${loadavg()
    .map((load) => load.toFixed(1))
    .join(' ')}`,
);
const figure = {
  rows,
  creates_per_s_many: mrc.creates_per_s_many,
  creates_per_s_one: rows.find(({ row }) => row === 'create, 1 thread')?.ours ?? null,
  failover_planned_s: failover.failover_planned_s,
  failover_crash_s: failover.failover_crash_s,
  rss_mb: memory,
};
console.log(`figure: ${JSON.stringify(figure)}`);
