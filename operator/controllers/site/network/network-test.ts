/** Carries out the test of NetworkPolicy: makes the pods, writes and takes away the policy while they go on, and cleans up. */
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import { networkPolicies, type Pod, pods } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import {
  callerPod,
  denyingPolicy,
  listenerPod,
  type Part,
  podName,
  policyName,
  type ProbeTerms,
  type Step,
} from './objects.ts';
import { type NetworkVerdict, obstacleOf, readCaller } from './progress.ts';

/** What a test works with. */
export interface NetworkTestParts {
  readonly client: Client;
  readonly clock: Clock;
  readonly namespace: string;
  readonly image: string;
  /** Name of the operator's own pod. */
  readonly identity: string;
}

/** How often the pods are looked at, milliseconds. */
const pollMs = 500;
/** A node may have to get the image first. */
const startLimitMs = 180_000;
/** The whole of it: five steps, four of which wait for policies. */
const runLimitMs = 300_000;
const cleanLimitMs = 60_000;
/** That a way stays open counts only when the policy had stood for so long. */
const standingMs = 30_000;

/** One test after another; never two at once, as their objects have the same names. */
export class NetworkTest {
  private readonly parts: NetworkTestParts;

  constructor(parts: NetworkTestParts) {
    this.parts = parts;
  }

  /**
   * Finds out whether NetworkPolicy is enforced. What an earlier test left is removed first, what this one made at the end.
   * @throws the signal's reason when it aborts; all other trouble is a verdict.
   */
  async run(signal: AbortSignal): Promise<NetworkVerdict> {
    try {
      await this.clean(signal);
      return await this.carryOut(signal);
    } catch (error) {
      signal.throwIfAborted();
      const message = error instanceof NeverCame ? error.message : `It was given up: ${describeError(error)}.`;
      return { kind: 'Inconclusive', message };
    } finally {
      // Also when the operator is being stopped: the next one need not find them.
      await this.clean(AbortSignal.timeout(cleanLimitMs), false).catch(() => undefined);
    }
  }

  private async carryOut(signal: AbortSignal): Promise<NetworkVerdict> {
    const { client, namespace, image, identity } = this.parts;
    const self = await client.of(pods).find({ namespace, name: identity }, { signal });
    const terms: ProbeTerms = { namespace, image, self };
    await client.of(pods).create(listenerPod(terms), { signal });
    const address = ({ status }: Pod): string | undefined => (status?.phase === 'Running' ? status.podIP : undefined);
    await client.of(pods).create(callerPod(terms, await this.started('listener', address, signal)), { signal });
    await this.started('caller', (pod) => (readCaller(pod).kind === 'waiting' ? undefined : true), signal);
    return this.follow(terms, signal);
  }

  /** Has the policy say what the step of the caller is about, until there is none left. @throws {NeverCame} */
  private async follow(terms: ProbeTerms, signal: AbortSignal): Promise<NetworkVerdict> {
    const { clock, client } = this.parts;
    let now: Step | undefined;
    let since = clock.monotonic();
    const verdict = await this.poll(runLimitMs, signal, async () => {
      const progress = readCaller(await client.of(pods).get(this.keyOf('caller'), { signal }));
      if (progress.kind === 'over') return judge(progress.verdict, now, clock.monotonic() - since);
      if (progress.kind !== 'at' || progress.step.name === now?.name) return undefined;
      now = progress.step;
      await this.deny(terms, now.denied, signal);
      since = clock.monotonic();
      return undefined;
    });
    if (verdict === undefined) throw new NeverCame('The calling pod did not come to its end in time.');
    return verdict;
  }

  private async deny(terms: ProbeTerms, denied: Part | undefined, signal: AbortSignal): Promise<void> {
    const client = this.parts.client.of(networkPolicies);
    if (denied === undefined) await ignoreNotFound(client.delete(this.policyKey, { signal }));
    else await client.apply(denyingPolicy(terms, denied), { signal });
  }

  /** Waits until a pod tells something. @throws {NeverCame} when it does not in time. */
  private async started<T>(part: Part, read: (pod: Pod) => T | undefined, signal: AbortSignal): Promise<T> {
    const key = this.keyOf(part);
    let obstacle = '';
    const found = await this.poll(startLimitMs, signal, async () => {
      const pod = await this.parts.client.of(pods).get(key, { signal });
      obstacle = obstacleOf(pod);
      return read(pod) ?? (pod.status?.phase === 'Failed' ? null : undefined);
    });
    if (found !== undefined && found !== null) return found;
    throw new NeverCame(`Pod ${key.name} in namespace ${key.namespace} did not start: ${obstacle}.`);
  }

  /** Removes everything of a test. @param isWaiting - whether to wait until it is gone. @throws {NeverCame} */
  private async clean(signal: AbortSignal, isWaiting = true): Promise<void> {
    const { client, namespace } = this.parts;
    await ignoreNotFound(client.of(networkPolicies).delete(this.policyKey, { signal }));
    const keys = (['caller', 'listener'] as const).map((part) => this.keyOf(part));
    for (const key of keys) await ignoreNotFound(client.of(pods).delete(key, { signal }));
    if (!isWaiting) return;
    let left: string[] = [];
    const isGone = await this.poll(cleanLimitMs, signal, async () => {
      const found = await Promise.all(keys.map(async (key) => client.of(pods).find(key, { signal })));
      left = found.flatMap((pod) => pod?.metadata.name ?? []);
      return left.length === 0 ? true : undefined;
    });
    if (isGone === true) return;
    const remedy = `kubectl delete pod --force -n ${namespace} ${left.join(' ')}`;
    throw new NeverCame(`What the test before left is still there: ${remedy}.`);
  }

  /** Looks again and again. @returns what it sees; undefined when the time is over before. */
  private async poll<T>(
    limitMs: number,
    signal: AbortSignal,
    look: () => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const { clock } = this.parts;
    const end = clock.monotonic() + limitMs;
    for (;;) {
      const seen = await look();
      if (seen !== undefined || clock.monotonic() >= end) return seen;
      await clock.sleep(pollMs, signal);
    }
  }

  private get policyKey(): { namespace: string; name: string } {
    return { namespace: this.parts.namespace, name: policyName };
  }

  private keyOf(part: Part): { namespace: string; name: string } {
    return { namespace: this.parts.namespace, name: podName(part) };
  }
}

/** A way that stayed open says nothing when there was hardly a policy. */
function judge(verdict: NetworkVerdict, now: Step | undefined, stoodMs: number): NetworkVerdict {
  if (verdict.kind !== 'NotEnforced') return verdict;
  if (now?.denied === verdict.denied && stoodMs >= standingMs) return verdict;
  return { kind: 'Inconclusive', message: 'The policy was written too late to be tested.' };
}

/** Something was waited for in vain; the message says what. */
class NeverCame extends Error {
  override name = 'NeverCame';
}
