import type { Offer, Query, Refusals, ResourceSelection } from '#proto/selector/contract.ts';

/** What a query came to. */
export interface Found {
  readonly offers: readonly Offer[];
  readonly refusals: Refusals;
  readonly visited: number;
}

/** Asks for offers until the query is over. @throws what the selection throws when it can't be asked. */
export async function ask(
  selection: ResourceSelection,
  query: Query,
  options: Parameters<ResourceSelection['select']>[1],
): Promise<Found> {
  const offers: Offer[] = [];
  let [refusals, visited]: [Refusals, number] = [{}, 0];
  for await (const message of selection.select(query, options)) {
    if ('offer' in message) offers.push(message.offer);
    else ({ refusals, visited } = message.summary);
  }
  return { offers, refusals, visited };
}
