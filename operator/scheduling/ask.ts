import type { Offer, Query, Refusals, ResourceSelection } from '#proto/selector/contract.ts';

/** What a query came to. */
export interface Found {
  readonly offers: readonly Offer[];
  readonly refusals: Refusals;
  readonly visited: number;
  /** Whether every node that could match has answered. */
  readonly isWhole: boolean;
}

/** Asks for offers until the query is over. @throws what the selection throws when it can't be asked. */
export async function ask(
  selection: ResourceSelection,
  query: Query,
  options: Parameters<ResourceSelection['select']>[1],
): Promise<Found> {
  const offers: Offer[] = [];
  let [refusals, visited, isWhole]: [Refusals, number, boolean] = [{}, 0, false];
  for await (const message of selection.select(query, options)) {
    if ('offer' in message) {
      offers.push(message.offer);
      continue;
    }
    ({ refusals, visited } = message.summary);
    isWhole = message.summary.isExhausted && message.summary.unreached === 0;
  }
  return { offers, refusals, visited, isWhole };
}
