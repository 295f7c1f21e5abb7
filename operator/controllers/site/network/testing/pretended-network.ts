/** Stands in for kubelets and a network plug-in in tests against a bare API server: runs the pods of the test of the network. */
import type { Clock } from '#common/clock.ts';
import { type NetworkPolicy, networkPolicies, type Pod, pods } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { NotFoundError } from '#runtime/errors.ts';
import { keyOf, type Stored } from '#runtime/types.ts';
import { podName, policyName, stepLimitMs, steps } from '../objects.ts';

/** What the network does with a policy that denies everything. */
export interface NetworkHabits {
  /** Keeps others from the pod. */
  ingress: boolean;
  /** Keeps the pod from others. */
  egress: boolean;
  /** Whether pods reach each other at all. */
  connects: boolean;
  /** Whether pods start. */
  starts: boolean;
}

const address = '10.0.0.1';
const pollMs = 20;
/** Long, so that an operator on a slow machine has written its policy and seen it stand. */
const patienceMs = 3 * stepLimitMs;

/** Looks at the pods again and again until it is stopped. */
export class PretendedNetwork {
  readonly habits: NetworkHabits = { ingress: true, egress: true, connects: true, starts: true };
  private readonly client: Client;
  private readonly namespace: string;
  private readonly clock: Clock;
  private readonly stopping = new AbortController();
  private readonly end: Promise<void>;
  /** Uid of the caller → when its step began. */
  private readonly began = new Map<string, { step: number; at: number }>();

  /** @param clock - by which steps last. */
  constructor(client: Client, namespace: string, clock: Clock) {
    this.client = client;
    this.namespace = namespace;
    this.clock = clock;
    this.end = this.run().catch((error: unknown) => {
      if (!this.stopping.signal.aborted) throw error;
    });
  }

  async stop(): Promise<void> {
    this.stopping.abort(new Error('the tests are over'));
    await this.end;
  }

  private async run(): Promise<void> {
    for (;;) {
      try {
        if (this.habits.starts) await this.look();
      } catch (error) {
        // Deleted meanwhile.
        if (!(error instanceof NotFoundError)) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, pollMs));
      this.stopping.signal.throwIfAborted();
    }
  }

  private async look(): Promise<void> {
    const { namespace } = this;
    const listener = await this.client.of(pods).find({ namespace, name: podName('listener') });
    if (listener !== undefined && listener.status?.phase !== 'Running') {
      await this.report(listener, { phase: 'Running', podIP: address, podIPs: [{ ip: address }] });
    }
    const caller = await this.client.of(pods).find({ namespace, name: podName('caller') });
    if (caller === undefined || listener === undefined || caller.status?.phase === 'Failed') return;
    const policy = await this.client.of(networkPolicies).find({ namespace, name: policyName });
    await this.advance(caller, policy !== undefined, this.isOpen([listener, caller], policy));
  }

  /** Goes on by one step when what it waits for is seen, and ends when that takes too long. */
  private async advance(caller: Stored<Pod>, isPolicyThere: boolean, isOpen: boolean): Promise<void> {
    const { uid } = caller.metadata;
    const now = this.began.get(uid) ?? { step: 0, at: this.clock.monotonic() };
    this.began.set(uid, now);
    const wanted = steps[now.step];
    if (wanted === undefined) return;
    if (isPolicyThere === (wanted.denied === undefined)) now.at = this.clock.monotonic();
    const isSeen = isOpen === (wanted.expects === 'reached');
    const isLate = this.clock.monotonic() - now.at > patienceMs;
    if (isSeen) this.began.set(uid, { step: now.step + 1, at: this.clock.monotonic() });
    await this.report(caller, statusOf(isSeen ? now.step + 1 : now.step, !isSeen && isLate));
  }

  private isOpen([listener, caller]: readonly [Pod, Pod], policy: NetworkPolicy | undefined): boolean {
    const { connects, ingress, egress } = this.habits;
    const isDenied = (pod: Pod): boolean =>
      policy !== undefined &&
      Object.entries(policy.spec?.podSelector?.matchLabels ?? {}).every(
        ([label, value]) => pod.metadata.labels?.[label] === value,
      );
    return connects && !(ingress && isDenied(listener)) && !(egress && isDenied(caller));
  }

  private async report(pod: Stored<Pod>, status: NonNullable<Pod['status']>): Promise<void> {
    await this.client.of(pods).status.patch(keyOf(pod), { type: 'merge', body: { status } });
  }
}

/** The caller in its step of this number, as a kubelet tells. */
function statusOf(at: number, isOver: boolean): NonNullable<Pod['status']> {
  const statuses = steps.slice(0, at + 1).map(({ name }, index) => {
    const exitCode = index < at ? 0 : isOver ? 3 : undefined;
    const state = exitCode === undefined ? { running: {} } : { terminated: { exitCode } };
    return { name, image: 'xtreemos', imageID: '', ready: false, restartCount: 0, state };
  });
  const last = steps.length - 1;
  const phase = at === steps.length ? 'Succeeded' : isOver ? 'Failed' : at === last ? 'Running' : 'Pending';
  return { phase, initContainerStatuses: statuses.slice(0, last), containerStatuses: statuses.slice(last) };
}
