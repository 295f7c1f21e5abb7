import { type FSWatcher, mkdirSync, readdirSync, readFileSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { describeError, systemErrorCode } from '#common/errors.ts';
import type { KubeClient, KubeObject, WatchEvent } from '../kube-client.ts';
import { type Policy, type PolicyPod, type PolicyWorld, renderRules } from './rules.ts';

/** A node as the agent needs it. */
export interface PolicyNode {
  readonly name: string;
  readonly podCidr: string;
  /** Folder where the CNI library keeps the result of each ADD: it tells addresses before a pod's first program runs. */
  readonly resultsDir: string;
  /** Identifies the boot that rules were loaded in; undefined while the node is off. */
  boot(): string | undefined;
  loadRules(rules: string): Promise<void>;
}

interface Collection {
  readonly path: string;
  readonly objects: Map<string, KubeObject>;
  isSynced: boolean;
}

const settleMs = 15;
const pollMs = 1000;
const retryMs = 500;

/** Keeps the policy rules of all nodes of one site as its API server and the nodes' CNI results say. */
export class PolicyAgent {
  private readonly client: KubeClient;
  private readonly nodes: readonly PolicyNode[];
  private readonly pods = collection('/api/v1/pods');
  private readonly namespaces = collection('/api/v1/namespaces');
  private readonly policies = collection('/apis/networking.k8s.io/v1/networkpolicies');
  private readonly loaded = new Map<string, string>();
  private readonly watchers: FSWatcher[] = [];
  private timer: NodeJS.Timeout | undefined;
  private isBusy = false;
  private isDirty = false;

  constructor(client: KubeClient, nodes: readonly PolicyNode[]) {
    this.client = client;
    this.nodes = nodes;
  }

  /** Runs until the signal aborts. Trouble with the API server or a node is logged and tried again. */
  async run(signal: AbortSignal): Promise<void> {
    for (const node of this.nodes) {
      mkdirSync(node.resultsDir, { recursive: true });
      this.watchers.push(watch(node.resultsDir, () => this.wake()));
    }
    const poll = setInterval(() => this.wake(), pollMs);
    const follow = [this.pods, this.namespaces, this.policies].map(async (each) => this.follow(each, signal));
    await Promise.all(follow);
    clearInterval(poll);
    for (const watcher of this.watchers) watcher.close();
  }

  private async follow(collected: Collection, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const list = await this.client.list(collected.path);
        collected.objects.clear();
        for (const object of list.items) collected.objects.set(keyOf(object), object);
        collected.isSynced = true;
        this.wake();
        let version = list.metadata.resourceVersion;
        for (;;) {
          const last = await this.watchOnce(collected, version, signal);
          if (last === undefined) break;
          version = last;
        }
      } catch (error) {
        // Stopping breaks the watch: no trouble.
        if (hasAborted(signal)) return;
        console.error(`Following ${collected.path} failed, trying again: ${describeError(error)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  /** @returns the version to go on from; undefined when the collection has to be listed again. */
  private async watchOnce(collected: Collection, from: string, signal: AbortSignal): Promise<string | undefined> {
    let version = from;
    for await (const event of this.client.watch(collected.path, from, signal)) {
      if (event.type === 'ERROR') return undefined;
      version = event.object.metadata?.resourceVersion ?? version;
      if (event.type !== 'BOOKMARK') {
        record(collected, event);
        this.wake();
      }
    }
    return version === from ? undefined : version;
  }

  private wake(): void {
    this.isDirty = true;
    if (this.timer !== undefined || this.isBusy) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.isBusy = true;
      this.isDirty = false;
      void this.reconcile().finally(() => {
        this.isBusy = false;
        if (this.isDirty) this.wake();
      });
    }, settleMs);
  }

  private async reconcile(): Promise<void> {
    if (![this.pods, this.namespaces, this.policies].every((each) => each.isSynced)) return;
    const world = this.gather();
    await Promise.all(
      this.nodes.map(async (node) => {
        const boot = node.boot();
        if (boot === undefined) return;
        const rules = renderRules(world, node.podCidr);
        const state = `${boot}\n${rules}`;
        if (this.loaded.get(node.name) === state) return;
        try {
          await node.loadRules(rules);
          this.loaded.set(node.name, state);
        } catch (error) {
          this.loaded.delete(node.name);
          console.error(`Loading rules on ${node.name} failed, trying again: ${describeError(error)}`);
        }
      }),
    );
  }

  private gather(): PolicyWorld {
    const addresses = new Map<string, string>();
    for (const node of this.nodes) for (const [pod, ip] of readResults(node.resultsDir)) addresses.set(pod, ip);
    return {
      pods: [...this.pods.objects.values()].flatMap((pod) => podOf(pod, addresses) ?? []),
      namespaces: new Map(
        [...this.namespaces.objects.values()].map((each) => [keyOf(each), each.metadata?.labels ?? {}]),
      ),
      policies: [...this.policies.objects.values()].map((each): Policy => {
        return { ...each.spec, namespace: each.metadata?.namespace ?? '' };
      }),
    };
  }
}

function hasAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function collection(path: string): Collection {
  return { path, objects: new Map(), isSynced: false };
}

function keyOf(object: KubeObject): string {
  const { namespace, name = '' } = object.metadata ?? {};
  return namespace === undefined ? name : `${namespace}/${name}`;
}

function record(collected: Collection, event: WatchEvent): void {
  if (event.type === 'DELETED') collected.objects.delete(keyOf(event.object));
  else collected.objects.set(keyOf(event.object), event.object);
}

interface PodContainer {
  readonly ports?: readonly { readonly name?: string; readonly protocol?: string; readonly containerPort: number }[];
}

function podOf(pod: KubeObject, addresses: ReadonlyMap<string, string>): PolicyPod | undefined {
  if (pod.spec?.hostNetwork === true) return undefined;
  if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return undefined;
  const ip = addresses.get(keyOf(pod)) ?? (pod.status?.podIP as string | undefined);
  if (ip === undefined) return undefined;
  const containers = (pod.spec?.containers ?? []) as PodContainer[];
  return {
    namespace: pod.metadata?.namespace ?? '',
    name: pod.metadata?.name ?? '',
    labels: pod.metadata?.labels ?? {},
    ip,
    ports: containers.flatMap((container) =>
      (container.ports ?? []).flatMap(({ name, protocol = 'TCP', containerPort: port }) =>
        name === undefined ? [] : [{ name, protocol, port }],
      ),
    ),
  };
}

interface CniResult {
  readonly cniArgs?: readonly (readonly [string, string])[];
  readonly result?: { readonly ips?: readonly { readonly address: string }[] };
}

/**
 * Pod (`NAMESPACE/NAME`) → address, as the CNI library wrote down on a node; of two results of one pod, the younger.
 * Files being written are passed over.
 */
export function readResults(dir: string): Map<string, string> {
  const found = new Map<string, { readonly address: string; readonly writtenAt: number }>();
  for (const file of listFiles(dir)) {
    try {
      const path = join(dir, file);
      const { cniArgs = [], result } = JSON.parse(readFileSync(path, 'utf8')) as CniResult;
      const args = new Map(cniArgs);
      const address = result?.ips?.[0]?.address.split('/')[0];
      // The loopback plug-in leaves results too, without the pod's address.
      if (address === undefined || address.startsWith('127.') || address.includes(':')) continue;
      const pod = `${args.get('K8S_POD_NAMESPACE') ?? ''}/${args.get('K8S_POD_NAME') ?? ''}`;
      const writtenAt = statSync(path).mtimeMs;
      if (writtenAt >= (found.get(pod)?.writtenAt ?? 0)) found.set(pod, { address, writtenAt });
    } catch {
      // Half-written or just deleted: the folder's next event, or the poll, comes back to it.
    }
  }
  return new Map([...found].map(([pod, { address }]) => [pod, address]));
}

function listFiles(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw error;
  }
}
