/** What `make bench-volume` measures, each part by itself. */
import { readdirSync, readFileSync } from 'node:fs';
import type { Volume } from '#crds/volume.ts';
import {
  createClient,
  findCondition,
  HttpTransport,
  kubeConfigCredentials,
  type Client,
  type Stored,
} from '#runtime/index.ts';
import { pods as podKind } from '#runtime/builtin.ts';
import { waitFor } from '#sites/harness.ts';
import { runCommand } from '#sites/shell.ts';
import { killProcesses, processesOf } from '../e2e/suites/components.ts';
import { shellImage } from '../e2e/suites/job-objects.ts';
import type { Login, Product } from '../e2e/suites/product.ts';

const about = { apiVersion: 'xtreemos.io/v1alpha1' };
const limitMs = 600_000;
/** Volumes of one pod when all are mounted at once. */
const volumesPerPod = 25;
const rounds = 3;
/** Prints seconds since the start of the machine, the same for pods and us. */
const uptime = 'cut -d" " -f1 /proc/uptime';
/** After a kill: longer than the kubelet takes to start a container again. */
const observedMs = 60_000;

const volumeName = (n: number): string => `bench-${n}`;
const round = (value: number): number => Number(value.toPrecision(3));

/** A member on a site with a file system of two OSDs. */
export class VolumeMeasures {
  private readonly product: Product;
  private readonly client: Client;
  private readonly report: (line: string) => void;
  private startP50S = 0;

  private constructor(product: Product, login: Login, report: (line: string) => void) {
    const [, file = ''] = login.login;
    this.product = product;
    this.report = report;
    const transport = new HttpTransport({ credentials: kubeConfigCredentials({ file }) });
    this.client = createClient(transport, { fieldManager: 'bench' });
  }

  static async prepare(product: Product, report: (line: string) => void): Promise<VolumeMeasures> {
    await product.formOrganization();
    await product.join('alice');
    const login = await product.logIn('alice');
    const metadata = { name: 'main', namespace: product.name };
    const spec = { osds: { count: 2 }, allowedVirtualOrganizations: [product.name] };
    await product.site.apply([{ ...about, kind: 'FileSystem', metadata, spec }]);
    await product.site.kubectl(['wait', 'xfs/main', '-n', product.name, '--for=condition=Ready', '--timeout=300s'], {
      timeoutMs: 310_000,
    });
    return new VolumeMeasures(product, login, report);
  }

  /** From the request for all volumes until each one is Ready. */
  async provision(count: number): Promise<{ provisioned_per_s: number }> {
    const { site, namespace } = this.product;
    const spec = { size: '1Gi', reclaimPolicy: 'Delete' };
    const made = Array.from({ length: count }, (_, n) => ({
      ...about,
      kind: 'Volume',
      metadata: { name: volumeName(n), namespace },
      spec,
    }));
    const startedAt = performance.now();
    await site.apply(made);
    const areReady = async (): Promise<boolean> => {
      const { items } = await site.get<{ items: Stored<Volume>[] }>('gvol', '-n', namespace);
      return (
        items.filter(({ status }) => findCondition(status?.conditions, 'Ready')?.status === 'True').length >= count
      );
    };
    await waitFor(`${count} volumes are Ready`, areReady, { limitMs });
    const perS = round((count * 1000) / (performance.now() - startedAt));
    this.report(`${count} volumes were made, ${perS}/s`);
    return { provisioned_per_s: perS };
  }

  /** From the request for a pod until it runs, one after the other. */
  async podStarts(count: number): Promise<Record<string, number>> {
    const empty: number[] = [];
    const mounted: number[] = [];
    for (let n = 0; n < count; n++) {
      empty.push(await this.startAndDelete(`empty-${n}`, []));
      mounted.push(await this.startAndDelete(`mounted-${n}`, [volumeName(n)]));
    }
    const at = (times: number[], share: number): number =>
      times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * share))] ?? NaN;
    this.startP50S = at(mounted, 0.5);
    this.report(
      `pods start in ${round(at(empty, 0.5))} s with an emptyDir, in ${round(this.startP50S)} s with a volume`,
    );
    return {
      pod_added_s_p50: round(at(mounted, 0.5) - at(empty, 0.5)),
      pod_added_s_p99: round(at(mounted, 0.99) - at(empty, 0.99)),
    };
  }

  /** Bytes written to disk and read anew per second, in a pod and by the node itself on the same mount. */
  async throughput(mib: number): Promise<Record<string, number>> {
    await this.start('throughput', [volumeName(0)]);
    const ratios: number[] = [];
    let inside = 0;
    for (let n = 0; n < rounds; n++) {
      inside = await this.move(mib, 'pod', '/v0');
      ratios.push(inside / (await this.move(mib, 'node', '/mnt')));
    }
    await this.delete('throughput');
    const median = ratios.toSorted((a, b) => a - b)[Math.floor(rounds / 2)] ?? NaN;
    return { throughput_ratio: round(median), throughput_mib_s: round(inside) };
  }

  /** How long writes stand still when all OSDs or the MRC are killed, and how much later a pod starts when the node agent is. */
  async failOver(): Promise<Record<'osd' | 'mrc' | 'agent', number>> {
    const { site, namespace } = this.product;
    // Each turn makes a file and puts it on disk, then tells the time.
    const turn = `dd if=/dev/zero of=/v0/f$i bs=4k count=1 conv=fsync 2>/dev/null && ${uptime}`;
    await this.start('writer', [volumeName(0)], `i=0; while :; do i=$((i+1)); ${turn}; rm /v0/f$i; usleep 20000; done`);
    const gapAfterKill = async (component: string): Promise<number> => {
      const killedAt = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
      await killProcesses(this.product, component);
      await new Promise((resolve) => setTimeout(resolve, observedMs));
      const times = (await site.kubectl(['logs', 'writer', '-n', namespace])).trim().split('\n').map(Number);
      if ((times.at(-1) ?? 0) < killedAt) throw new Error(`nothing was written after every ${component} was killed`);
      const gaps = times.map((time, index) => (time < killedAt ? 0 : time - (times[index - 1] ?? time)));
      return round(Math.max(...gaps));
    };
    const [osd, mrc] = [await gapAfterKill('osd'), await gapAfterKill('mrc')];
    await this.delete('writer');
    await killProcesses(this.product, 'node-agent');
    const agent = round(Math.max(0, (await this.startAndDelete('after-agent', [volumeName(1)])) - this.startP50S));
    return { osd, mrc, agent };
  }

  /** What the processes of the mount holder hold for themselves and their share of what they have together, per mount. */
  async memory(count: number): Promise<{ mb_per_mount: number }> {
    const before = await this.holderMb();
    for (let n = 0; n < count; n += volumesPerPod) {
      const names = Array.from({ length: Math.min(volumesPerPod, count - n) }, (_, each) => volumeName(n + each));
      await this.start(`many-${n}`, names);
    }
    return { mb_per_mount: round(((await this.holderMb()) - before) / count) };
  }

  private async holderMb(): Promise<number> {
    const kilobytes = (await processesOf(this.product, 'mount-holder')).map((pid) =>
      Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0),
    );
    return kilobytes.reduce((sum, each) => sum + each, 0) / 1000;
  }

  /** Writes and reads a file of the member. @returns MiB per second. */
  private async move(mib: number, where: 'pod' | 'node', folder: string): Promise<number> {
    const { site, namespace } = this.product;
    const run = async (script: string): Promise<string> => {
      if (where === 'node') return this.onNode(script);
      return (await site.exec(namespace, 'throughput', script, 300_000)).stdout;
    };
    const file = `${folder}/from-${where}`;
    const seconds = async (script: string): Promise<number> => {
      const told = (await run(`${uptime} && ${script} 2>/dev/null && ${uptime}`)).trim().split('\n').map(Number);
      const [from = NaN, to = NaN] = told;
      if (!(to > from)) throw new Error(`${script} in the ${where} told no time`);
      return to - from;
    };
    const written = await seconds(`busybox dd if=/dev/zero of=${file} bs=1M count=${mib} conv=fsync`);
    // Pages of the file leave the cache of the kernel, so that reading asks the servers.
    await this.onNode(`dd of=/mnt/from-${where} oflag=nocache conv=notrunc,fdatasync count=0 2>&1`);
    const read = await seconds(`busybox dd if=${file} of=/dev/null bs=1M`);
    await run(`rm ${file}`);
    this.report(`${where}: writes ${round(mib / written)} MiB/s, reads ${round(mib / read)} MiB/s`);
    return (2 * mib) / (written + read);
  }

  /** Runs a script on the node with the ids of the pod, and with the mount of the node at its /mnt: members get to no folder of the kubelet. */
  private async onNode(script: string): Promise<string> {
    const { stdout } = await this.product.site.exec(this.product.namespace, 'throughput', 'id -u; id -g; id -G');
    const [uid = '', gid = '', groups = ''] = stdout.split('\n');
    const ids = `--reuid ${uid} --regid ${gid} --groups ${groups.replaceAll(' ', ',')}`;
    const inside = `mount --bind ${this.mountOnNode()} /mnt && exec setpriv ${ids} sh -c '${script}'`;
    const flags = [
      'nsenter',
      '--target',
      String(this.kubelet()),
      '--mount',
      'unshare',
      '--mount',
      '--propagation',
      'private',
    ];
    return runCommand([...flags, 'sh', '-c', inside], { timeoutMs: 300_000 });
  }

  /** Where the node has the only volume that is mounted: the path that no pod has. */
  private mountOnNode(): string {
    const lines = readFileSync(`/proc/${this.kubelet()}/mountinfo`, 'utf8').split('\n');
    const points = lines.filter((line) => line.includes(' - fuse.')).map((line) => line.split(' ')[4] ?? '');
    const found = points.findLast((point) => point.endsWith('/globalmount'));
    if (found === undefined) throw new Error('the node has no volume mounted');
    return found;
  }

  private kubelet(): number {
    const [node = ''] = this.product.site.nodes;
    const isKubelet = (pid: string): boolean => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return words[0]?.endsWith('/kubelet') === true && words.includes(`--hostname-override=${node}`);
      } catch {
        return false;
      }
    };
    const pid = readdirSync('/proc').find((entry) => /^\d+$/.test(entry) && isKubelet(entry));
    if (pid === undefined) throw new Error(`the kubelet of ${node} does not run`);
    return Number(pid);
  }

  private async startAndDelete(name: string, volumes: readonly string[]): Promise<number> {
    const seconds = await this.start(name, volumes);
    await this.delete(name);
    return seconds;
  }

  /** Starts a pod of the member with volumes at /v0, /v1 …; an emptyDir without any. @returns seconds until it is Ready. */
  private async start(name: string, volumes: readonly string[], script = 'sleep 100000'): Promise<number> {
    const key = { namespace: this.product.namespace, name };
    const sources = volumes.map((claimName) => ({ persistentVolumeClaim: { claimName } }));
    const all: readonly object[] = sources.length > 0 ? sources : [{ emptyDir: {} }];
    const volumeMounts = all.map((_, index) => ({ name: `v${index}`, mountPath: `/v${index}` }));
    const containers = [{ name: 'main', image: shellImage, command: ['sh', '-c', script], volumeMounts }];
    const spec = {
      containers,
      terminationGracePeriodSeconds: 1,
      volumes: all.map((source, index) => ({ name: `v${index}`, ...source })),
    };
    const startedAt = performance.now();
    await this.client.of(podKind).create({ apiVersion: 'v1', kind: 'Pod', metadata: key, spec });
    const isReady = async (): Promise<boolean> => {
      const { status } = await this.client.of(podKind).get(key);
      return status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true;
    };
    await waitFor(`${name} is Ready`, isReady, { limitMs, pauseMs: 20 });
    return (performance.now() - startedAt) / 1000;
  }

  private async delete(name: string): Promise<void> {
    await this.product.site.kubectl(
      ['delete', 'pod', name, '-n', this.product.namespace, '--grace-period=1', '--timeout=120s'],
      { timeoutMs: 130_000 },
    );
  }
}
