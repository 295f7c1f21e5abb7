/** Ways to write a rule so that its message names field, value and remedy. */
import type { Rule } from './policy.ts';

/** A CEL list of strings. */
export function celList(items: readonly string[]): string {
  return `[${items.map((item) => `'${item}'`).join(', ')}]`;
}

/** A rule about the pod or template as a whole. `path` is relative to its spec; `value` is CEL of a text. */
export function specRule(rule: {
  readonly expression: string;
  readonly path: string;
  readonly value: string;
  readonly remedy: string;
}): Rule {
  return {
    expression: rule.expression,
    messageExpression: `variables.at + '.${rule.path}: ' + ${rule.value} + ' is not allowed in a virtual organization: ' + ${rule.remedy}`,
  };
}

/**
 * A rule about each item of a list. `list` is CEL; `wrong` is CEL over `i`, true for an item that is refused; `value` is CEL over `i` that
 * names the field and its value.
 */
export function eachRule(rule: {
  readonly list: string;
  readonly wrong: string;
  readonly value: string;
  readonly remedy: string;
}): Rule {
  const { list, wrong, value, remedy } = rule;
  return {
    expression: `!${list}.exists(i, ${wrong})`,
    messageExpression: `variables.at + '.' + ${list}.filter(i, ${wrong}).map(i, ${value})[0] + ' is not allowed in a virtual organization: ' + ${remedy}`,
  };
}

/** As `eachRule`, over the containers of all kinds; `field` is CEL over `i` that names field and value. */
export function containerRule(wrong: string, field: string, remedy: string): Rule {
  return eachRule({
    list: 'variables.containers',
    wrong,
    value: `'container ' + i.name + ': ' + ${field}`,
    remedy: quoted(remedy),
  });
}

/** The keys of the map `map` that aren't in `allowed`, as CEL; reads `k`. */
export function unknownKeys(map: string, allowed: readonly string[]): string {
  return `${map}.filter(k, !(k in ${celList(allowed)}))`;
}

/** A CEL text. */
export function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
