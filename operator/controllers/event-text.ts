const namesMax = 5;

/** Names in a sentence; of many only the first. */
export function listed(names: readonly string[]): string {
  return names.length > namesMax ? `${names.slice(0, namesMax).join(', ')} and more` : names.join(', ');
}
