import type { Execution } from '#crds/execution.ts';
import type { Stored } from '#runtime/types.ts';
import type { PodSurroundings } from './pod.ts';

/** Whether this site takes the tasks of a member now, and what their pods need. */
export type SurroundingsAnswer =
  | { readonly status: 'ready'; readonly surroundings: PodSurroundings }
  /** The account of the member is being made. */
  | { readonly status: 'waiting' }
  | { readonly status: 'refused'; readonly reason: string };

/** What the site says of the member of an Execution: the site's own rules are checked here, for every start of a pod. */
export interface Surroundings {
  of(execution: Stored<Execution>, signal: AbortSignal): Promise<SurroundingsAnswer>;
  nodeExists(name: string): boolean;
}
