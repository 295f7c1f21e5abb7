import type { Refusals } from '#proto/selector/contract.ts';

/** Reasons of nodes of other sites: with their site, so that it can be told where something is missing. */
const mark = '\u0000';

/** A reason as it is counted for a site that isn't this one. */
export function refusedAt(reason: string, site: string): string {
  return `${reason}${mark}${site}`;
}

/** Adds to how many nodes refused for each reason, in place. */
export function addRefusals(total: Record<string, number>, more: Refusals): void {
  for (const [reason, nodes] of Object.entries(more)) total[reason] = (total[reason] ?? 0) + nodes;
}

/** The reason, and the site it comes from. @param local - name of this site. */
export function readRefusal(counted: string, local: string): { readonly reason: string; readonly site: string } {
  const [reason = '', site = local] = counted.split(mark);
  return { reason, site };
}
