/** Where a guide is typed: a site of the suites with nothing on it, the programs that the guide names, and a terminal. */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { openSites, type TestSite } from '#sites/harness.ts';
import { ensureTools } from '#sites/tools.ts';
import { loadProduct } from '../product.ts';
import { Comparison, readGuide, type Step, Terminal } from './guide.ts';

const root = path.resolve(import.meta.dirname, '../../..');
const namespace = 'xtreemos-system';

/** The steps of a guide, from its path in the project. */
export function stepsOf(file: string): Step[] {
  return readGuide(path.join(root, file));
}

/** The steps of a guide under one of its headings. @throws when there are none. */
export function stepsUnder(file: string, heading: string): [Step, ...Step[]] {
  const [first, ...rest] = stepsOf(file).filter((step) => step.heading === heading);
  if (first === undefined) throw new Error(`${file} has no commands under «${heading}»`);
  return [first, ...rest];
}

/** A place to type the guides that use the site `demo`. */
export class Desk {
  readonly site: TestSite;
  readonly terminal: Terminal;
  private readonly scratch: string;
  private readonly comparison = new Comparison();
  /** Heading of the step that is being typed, or that failed: each stands on those before it. */
  private stopped: string | undefined;

  private constructor(site: TestSite, scratch: string, terminal: Terminal) {
    this.site = site;
    this.scratch = scratch;
    this.terminal = terminal;
  }

  /** Loads the product into the site, and gives the terminal `kubectl`, `helm`, `xos` and a kubeconfig. */
  static async open(): Promise<Desk> {
    const { kubeconfig, sites } = await openSites();
    const [site] = sites;
    if (site === undefined) throw new Error('there is no site for the suites');
    const scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-guide-'));
    await loadProduct(site);
    // What an earlier release said about its gateway outlives it, with an authority that signs nothing any more.
    await site.tryKubectl(['delete', 'configmap', 'xtreemos-gateway', '-n', 'kube-public', '--ignore-not-found']);
    await promisify(execFile)(process.execPath, [path.join(root, 'hack/install-cli.ts'), '--prefix', scratch]);
    const tools = await ensureTools(['kubectl', 'helm']);
    const folders = ['kubectl', 'helm'].map((name) => path.dirname(tools.path(name)));
    const programs = [path.join(scratch, 'bin'), path.dirname(process.execPath), ...folders, process.env.PATH];
    copyFileSync(kubeconfig, path.join(scratch, 'kubeconfig'));
    const env = { HOME: scratch, PATH: programs.join(path.delimiter), KUBECONFIG: path.join(scratch, 'kubeconfig') };
    return new Desk(site, scratch, new Terminal({ cwd: root, env }));
  }

  /** What a guide says, with the names of this site in place of those of `make sites`. */
  here(text: string): string {
    return text
      .replaceAll('/var/lib/xtreemos-sites/dev/kubeconfig', path.join(this.scratch, 'kubeconfig'))
      .replaceAll('/home/you/xtreemos-try', path.join(this.scratch, 'xtreemos-try'))
      .replaceAll(/\bdev-a\b/g, this.site.name);
  }

  /**
   * Installs the product by the commands of the first step of «Getting started», so that it can be taken away whole.
   * @returns what they printed. @throws when one failed.
   */
  async install(): Promise<string> {
    const script = stepsOf('docs/getting-started.md')[0]?.script ?? '';
    const installing = script.slice(script.indexOf('NODE='));
    const settings = '--wait --timeout=150s --set crds.keep=false --set operator.leaseDurationSeconds=6';
    const { printed, status } = await this.terminal.type(
      `set -e\n${this.here(installing).replace('--wait', settings)}\nset +e`,
      170_000,
    );
    if (status !== 0 || !printed.includes('STATUS: deployed')) throw new Error(`not installed: ${printed}`);
    return printed;
  }

  /**
   * Types a step, and compares what it prints with what the guide shows; where it shows nothing, the last command must succeed.
   * @param isRepeated - again until it is so, for half a minute: where the guide says to wait a moment.
   * @throws with what was printed when it is something else, or when an earlier step failed.
   */
  async type(step: Step, { isRepeated = false } = {}): Promise<void> {
    if (this.stopped !== undefined) throw new Error(`not typed, since «${this.stopped}» failed`);
    this.stopped = step.heading;
    const end = Date.now() + 30_000;
    for (;;) {
      const wrong = await this.tryStep(step);
      if (wrong === undefined) break;
      if (!isRepeated || Date.now() > end) throw new Error(wrong);
      await this.terminal.type('sleep 1', 10_000);
    }
    this.stopped = undefined;
  }

  private async tryStep({ script, printed: shown }: Step): Promise<string | undefined> {
    const { printed, status } = await this.terminal.type(this.here(script), 120_000);
    if (shown === undefined) return status === 0 ? undefined : `status ${status}: ${printed}`;
    const missing = this.comparison.missing(this.here(shown), printed);
    return missing === undefined ? undefined : `not printed: ${missing}\nprinted: ${printed}`;
  }

  /** Takes away what the guides leave, and the product. */
  async close(): Promise<void> {
    const { site } = this;
    this.terminal.close();
    await site.tryKubectl(['patch', 'site', 'demo', '--type=merge', '-p', '{"spec":{"local":null}}']);
    await site.tryKubectl(['delete', 'vo', '--all', '--timeout=60s'], { timeoutMs: 70_000 });
    await site.tryKubectl(['delete', 'islice', '--all']);
    for (const kind of ['clusterrole', 'clusterrolebinding']) {
      await site.tryKubectl(['delete', kind, 'vo-founder', 'vo-founders', '--ignore-not-found']);
    }
    await site.helm(['uninstall', 'xtreemos', '--namespace', namespace, '--wait', '--ignore-not-found']);
    await site.tryKubectl(['delete', 'namespace', namespace, '--wait=false']);
    rmSync(this.scratch, { recursive: true, force: true });
  }
}
