import type { Condition, KubeObject } from '#runtime/types.ts';

/** The conditions of an object, one fact each: status, reason and what it means. */
export function conditionFacts(object: KubeObject): [string, string][] {
  const { status } = object as { readonly status?: { readonly conditions?: readonly Condition[] } };
  return (status?.conditions ?? []).map(({ type, status: value, reason, message }) => [
    type,
    [value, reason === '' ? '' : `(${reason})`, message].filter((part) => part !== '').join(' '),
  ]);
}
