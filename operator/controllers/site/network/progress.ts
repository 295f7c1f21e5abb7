/** What the pods of the test tell by how they stand: pure. */
import type { Pod } from '#runtime/builtin.ts';
import { type Part, type Step, steps } from './objects.ts';

/** What came of a test. */
export type NetworkVerdict =
  | { readonly kind: 'Enforced' }
  | {
      readonly kind: 'NotEnforced';
      /** Who had everything denied and was reached, or reached others, all the same. */
      readonly denied: Part;
    }
  | {
      readonly kind: 'Inconclusive';
      /** Why, as a sentence. */
      readonly message: string;
    };

/** How far the caller is. */
export type Progress =
  | { readonly kind: 'waiting' }
  /** It is in this step now. */
  | { readonly kind: 'at'; readonly step: Step }
  | { readonly kind: 'over'; readonly verdict: NetworkVerdict };

/** How the program ends that did not see what it waited for. */
const notSeen = 3;

/** Reads the state of the caller. Steps run one after another, each in a container of its own. */
export function readCaller({ status }: Pod): Progress {
  const ended = new Map(
    [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])].flatMap(({ name, state }) =>
      state?.terminated === undefined ? [] : [[name, state.terminated.exitCode] as const],
    ),
  );
  const step = steps.find(({ name }) => ended.get(name) !== 0);
  if (step === undefined) return { kind: 'over', verdict: { kind: 'Enforced' } };
  const code = ended.get(step.name);
  if (code === notSeen) return { kind: 'over', verdict: verdictOf(step) };
  if (code !== undefined || status?.phase === 'Failed' || status?.phase === 'Succeeded') {
    const why = status?.message ?? status?.reason ?? `its container ${step.name} ended with ${code ?? 'no status'}`;
    return {
      kind: 'over',
      verdict: { kind: 'Inconclusive', message: `The calling pod did not run to its end: ${why}.` },
    };
  }
  const isRunning = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])].some(
    ({ name, state }) => name === step.name && state?.running !== undefined,
  );
  // A policy is there before the step that looks for it begins, as soon as the one before has ended.
  return isRunning || ended.size > 0 ? { kind: 'at', step } : { kind: 'waiting' };
}

function verdictOf({ denied, name }: Step): NetworkVerdict {
  if (denied !== undefined) return { kind: 'NotEnforced', denied };
  const when = name === 'open' ? 'without any policy' : 'after the policy was taken away';
  const message = `A pod did not reach another one ${when}: the network is broken, or another policy closes the namespace of the operator.`;
  return { kind: 'Inconclusive', message };
}

/** Why a pod does not start yet, as Kubernetes tells it; a few words. */
export function obstacleOf({ status }: Pod): string {
  const unscheduled = status?.conditions?.find(
    ({ type, status: value }) => type === 'PodScheduled' && value === 'False',
  );
  if (unscheduled !== undefined) return shortened(unscheduled.message ?? unscheduled.reason ?? 'not scheduled');
  const waiting = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])].find(
    ({ state }) => state?.waiting?.reason !== undefined && state.waiting.reason !== 'PodInitializing',
  )?.state?.waiting;
  if (waiting !== undefined) return shortened([waiting.reason, waiting.message].filter(Boolean).join(': '));
  return status?.phase === undefined ? 'it was not looked at by a scheduler' : `it is ${status.phase}`;
}

function shortened(text: string): string {
  return text.length > 256 ? `${text.slice(0, 255)}…` : text;
}
