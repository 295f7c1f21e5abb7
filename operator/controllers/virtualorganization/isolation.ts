/** How far members are kept apart here, between what the virtual organization demands and what the site offers: pure. */
import type { IsolationLevel } from '#crds/organization.ts';
import { tenancyReady } from '#crds/tenancy.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Node } from '#runtime/builtin.ts';
import type { Acceptance } from './acceptance.ts';

/** Label and taint of a node that its owner gives to one virtual organization; the value is its name. */
export const dedicatedLabel = 'xtreemos.io/dedicated-to';

/** From weakest to strongest. */
const ladder: readonly IsolationLevel[] = ['Namespace', 'UserNamespace', 'Sandbox', 'DedicatedNode'];

/** What the site has, as far as isolation goes. */
export interface IsolationFacts {
  /** Whether some node can give a pod a user namespace. */
  readonly hasUserNamespaces: boolean;
  /** Whether the RuntimeClass that the Site names for sandboxes exists. */
  readonly hasRuntimeClass: boolean;
  /** Nodes that bear label and taint for this virtual organization. */
  readonly dedicatedNodes: number;
}

/** The level in force, or why there is none. */
export type IsolationPlan =
  | {
      readonly isPossible: true;
      readonly level: IsolationLevel;
      /** Whether every pod must have a user namespace. */
      readonly needsUserNamespace: boolean;
      /** The RuntimeClass that every pod must name. */
      readonly runtimeClass: string | undefined;
    }
  | {
      readonly isPossible: false;
      readonly reason: keyof typeof tenancyReady.reasons;
      readonly message: string;
    };

const openNetwork =
  'The network of the site does not enforce NetworkPolicy, so pods of others would reach its pods, and its pods nodes and others: nothing new starts, what runs goes on. The owner of the site looks at the condition NetworkIsolated of the Site: they install a network plug-in that enforces NetworkPolicy, or accept it as it is with spec.local.networkIsolation: NotOffered.';

/** What the nodes can do for a virtual organization. */
export function isolationFactsOf(nodes: readonly Node[], voName: string, hasRuntimeClass: boolean): IsolationFacts {
  const isDedicated = (node: Node): boolean =>
    node.metadata.labels?.[dedicatedLabel] === voName &&
    (node.spec?.taints ?? []).some(
      ({ key, value, effect }) => key === dedicatedLabel && value === voName && effect !== 'PreferNoSchedule',
    );
  return {
    hasUserNamespaces: nodes.some((node) =>
      (node.status?.runtimeHandlers ?? []).some((handler) => handler.features?.userNamespaces === true),
    ),
    hasRuntimeClass,
    dedicatedNodes: nodes.filter(isDedicated).length,
  };
}

/**
 * Takes the weakest level that the site offers and that is no weaker than what the virtual organization demands. The levels are a ladder: a
 * stronger one stands in for a weaker one, without having its means besides.
 */
export function planIsolation(vo: VirtualOrganization, acceptance: Acceptance, facts: IsolationFacts): IsolationPlan {
  const { minimum } = vo.spec.isolation;
  // Issued ids lie above the 65,536 of a user namespace.
  const isFit = (each: IsolationLevel): boolean => each !== 'UserNamespace' || vo.spec.identity.uidMode === 'Local';
  const level = ladder
    .slice(ladder.indexOf(minimum))
    .find((each) => acceptance.isolation.includes(each) && isFit(each));
  const { IsolationNotOffered, IsolationUnavailable, NetworkNotIsolated } = tenancyReady.reasons;
  if (level === undefined) {
    const offer = acceptance.isolation.length === 0 ? 'none' : acceptance.isolation.join(', ');
    const message = `It demands the isolation ${minimum} and the site offers ${offer}: the owner of the site offers more in spec.local.isolation, or spec.isolation.minimum is lowered.`;
    return { isPossible: false, reason: IsolationNotOffered, message };
  }
  if (acceptance.network === 'Broken') return { isPossible: false, reason: NetworkNotIsolated, message: openNetwork };
  const needsUserNamespace = level === 'UserNamespace' || vo.spec.identity.uidMode === 'Local';
  const missing = missingMeans(level, needsUserNamespace, vo.metadata.name, acceptance, facts);
  if (missing !== undefined) return { isPossible: false, reason: IsolationUnavailable, message: missing };
  const runtimeClass = level === 'Sandbox' ? acceptance.sandboxRuntimeClass : undefined;
  return { isPossible: true, level, needsUserNamespace, runtimeClass };
}

/** What the site offers but hasn't; a sentence that says what to do. */
function missingMeans(
  level: IsolationLevel,
  needsUserNamespace: boolean,
  voName: string,
  { sandboxRuntimeClass }: Acceptance,
  facts: IsolationFacts,
): string | undefined {
  if (needsUserNamespace && !facts.hasUserNamespaces) {
    return 'Pods need user namespaces (isolation UserNamespace, or uidMode Local), and no node reports a container runtime that has them: upgrade runtime and kernel of the nodes.';
  }
  if (level === 'Sandbox' && !facts.hasRuntimeClass) {
    return sandboxRuntimeClass === undefined
      ? 'The site offers Sandbox but names no RuntimeClass: set spec.local.sandboxRuntimeClass of the Site.'
      : `The RuntimeClass ${sandboxRuntimeClass}, which the Site names for sandboxes, does not exist: make it, or name another one.`;
  }
  if (level === 'DedicatedNode' && facts.dedicatedNodes === 0) {
    return `No node is dedicated to it: kubectl label node NODE ${dedicatedLabel}=${voName}; kubectl taint node NODE ${dedicatedLabel}=${voName}:NoSchedule`;
  }
  return undefined;
}
