/**
 * What end-to-end suites use: the sites that `e2e/setup.ts` brought up, whatever provider made them.
 *
 * ```ts
 * const { sites } = await openSites();
 * const site = sites[0]!;
 * await site.kubectl(['get', 'nodes']);
 * ```
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { TerminalError } from '#common/errors.ts';

import { type ImageRecipe, writeArchive, writeLayout } from '../../hack/images/layout.ts';
import type { Faults } from './faults.ts';
import { KubeClient, waitFor } from './kube-client.ts';
import { readCredentials } from './kubeconfig.ts';
import { chooseProvider, type ProvidedSite } from './provider.ts';
import { type CommandOptions, type CommandResult, runCommand, tryCommand } from './shell.ts';
import { ensureTools, type Tools } from './tools.ts';

export { waitFor } from './kube-client.ts';

/** Name of the shared instance: `XTREEMOS_E2E_NAME`, else `e2e`. */
export function sharedName(): string {
  return process.env.XTREEMOS_E2E_NAME ?? 'e2e';
}

/** Name of the provider: `PROVIDER`, else `local`. */
export function providerName(): string {
  return process.env.PROVIDER ?? 'local';
}

/** The shared sites. */
export interface TestSites {
  /** kubeconfig of all sites, a context per site, named like the site. */
  readonly kubeconfig: string;
  readonly sites: readonly TestSite[];
  /** Absent with kind. */
  readonly faults?: Faults;
}

/** Flags with which kubectl is one of the users of a site, who may do nothing until RBAC says so. */
export function loginOf({ kubeconfig }: TestSites, site: TestSite, user: string): string[] {
  return ['--kubeconfig', kubeconfig, '--context', `${user}@${site.name}`];
}

/**
 * Opens the shared sites.
 * @throws {TerminalError} when they weren't brought up.
 */
export async function openSites(name = sharedName()): Promise<TestSites> {
  const provider = await chooseProvider(providerName());
  if (provider === undefined) throw new TerminalError(`PROVIDER=${providerName()} can't run here`);
  const tools = await ensureTools(['kubectl', 'helm']);
  const { kubeconfig, sites, faults } = await provider.open(name);
  return {
    kubeconfig,
    sites: sites.map((site) => new TestSite(site, tools)),
    ...(faults === undefined ? {} : { faults }),
  };
}

/** One cluster under test. */
export class TestSite {
  readonly name: string;
  /** kubeconfig of this site alone, as administrator. */
  readonly kubeconfig: string;
  readonly nodes: readonly string[];
  /** Address at which other sites reach this site's gateway: its first node's. */
  readonly gatewayAddress: string;
  private readonly provided: ProvidedSite;
  private readonly tools: Tools;

  constructor(provided: ProvidedSite, tools: Tools) {
    this.name = provided.name;
    this.kubeconfig = provided.kubeconfig;
    this.nodes = provided.nodes;
    this.gatewayAddress = provided.gatewayAddress;
    this.provided = provided;
    this.tools = tools;
  }

  /** Runs kubectl. @returns standard output. @throws when its status isn't 0 */
  async kubectl(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return runCommand(this.command('kubectl', args), options);
  }

  /** Runs kubectl and returns its status too. */
  async tryKubectl(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return tryCommand(this.command('kubectl', args), options);
  }

  /** Runs Helm. @returns standard output. @throws when its status isn't 0 */
  async helm(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return runCommand(this.command('helm', args), { timeoutMs: 300_000, ...options });
  }

  /** Server-side applies objects (or YAML text). */
  async apply(objects: string | readonly unknown[]): Promise<void> {
    const list = { apiVersion: 'v1', kind: 'List', items: objects };
    const input = typeof objects === 'string' ? objects : JSON.stringify(list);
    await this.kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], { input });
  }

  /** Reads one object as JSON: `get<Pod>('pod', 'x', '-n', 'y')`. */
  async get<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.kubectl(['get', ...args, '-o', 'json'])) as T;
  }

  /** Waits until an object, named as for `get`, is as expected. @throws with its status when it is not in time. */
  async until<T extends { readonly status?: unknown }>(
    names: readonly string[],
    is: (object: T) => boolean,
    limitMs: number,
  ): Promise<T> {
    let last: T | undefined;
    const reached = waitFor(
      `${names.join(' ')} is as expected`,
      async () => {
        last = await this.get<T>(...names);
        return is(last) ? last : undefined;
      },
      { limitMs },
    );
    return reached.catch((error: unknown) => {
      throw new Error(`${String(error)}: ${JSON.stringify(last?.status)}`, { cause: error });
    });
  }

  /** Runs a shell command in a pod. */
  async exec(namespace: string, pod: string, script: string, timeoutMs = 30_000): Promise<CommandResult> {
    return this.tryKubectl(['exec', '-n', namespace, pod, '--', '/bin/sh', '-c', script], { timeoutMs });
  }

  /** A client of this site's API server as administrator. Close it when done. */
  client(): KubeClient {
    return new KubeClient(readCredentials(this.kubeconfig));
  }

  /** Imports an OCI archive (`make images` writes `dist/images/images.tar`) into every node. */
  async loadImage(archive: string): Promise<void> {
    await this.provided.loadImages(archive);
  }

  /** Builds images and imports them into every node. */
  async loadRecipes(recipes: readonly ImageRecipe[]): Promise<void> {
    const dir = mkdtempSync(join(tmpdir(), 'xtreemos-images-'));
    try {
      mkdirSync(join(dir, 'layout'));
      await writeLayout(join(dir, 'layout'), recipes);
      await writeArchive(join(dir, 'layout'), join(dir, 'images.tar'));
      await this.loadImage(join(dir, 'images.tar'));
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  }

  private command(program: 'kubectl' | 'helm', args: readonly string[]): string[] {
    return [this.tools.path(program), `--kubeconfig=${this.kubeconfig}`, ...args];
  }
}
