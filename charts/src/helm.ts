/**
 * Helm expressions inside objects made with cdk8s. cdk8s writes plain YAML, so an expression travels as a token, a text that can't occur
 * otherwise, and is put in its place once the YAML is printed. An expression is always a whole value, never a part of one: what is joined is
 * joined by Helm (`printf`), so that quoting is right whatever the user gives.
 */
import YAML from 'yaml';
import { AssertionError } from '#common/errors.ts';

/** How the value of an expression is written. */
type Style = 'text' | 'plain' | 'block';

const tokenPattern = /^⟦(text|plain)⟧(.+)$/s;

/** The only key of an object that stands for a map or list: cdk8s copies some objects key by key, which a text wouldn't survive. */
const blockKey = '⟦block⟧';

/** A text, quoted: `{{ EXPRESSION | quote }}`. */
export function text(expression: string): string {
  return `⟦text⟧${expression}`;
}

/** A number or boolean, as it is. */
export function plain(expression: string): unknown {
  return `⟦plain⟧${expression}`;
}

/** A map or list, indented to its place. */
export function block(expression: string): Record<string, string> {
  return { [blockKey]: expression };
}

interface Token {
  readonly style: Style;
  readonly expression: string;
}

/** Prints one object as a template. With `condition`, only when that Helm expression is true. */
export function renderTemplate(object: unknown, condition?: string): string {
  const tokens: Token[] = [];
  const marked = mark(object, tokens);
  const yaml = YAML.stringify(marked, { lineWidth: 0, aliasDuplicateObjects: false });
  if (yaml.includes('{{')) throw new AssertionError('a template holds braces that Helm would read as an expression');
  const body = yaml
    .split('\n')
    .map((line) => fill(line, tokens))
    .join('\n');
  return condition === undefined ? body : `{{- if ${condition} }}\n${body}{{- end }}\n`;
}

/** Replaces each token by a word that YAML prints without quotes, and notes what it stands for. */
function mark(value: unknown, tokens: Token[]): unknown {
  if (typeof value === 'string') {
    const match = tokenPattern.exec(value);
    if (match === null) {
      if (value.includes('⟦'))
        throw new AssertionError(`${value}: an expression must be the whole value; join with printf`);
      return value;
    }
    return note({ style: match[1] as Style, expression: match[2] ?? '' }, tokens);
  }
  if (Array.isArray(value)) return value.map((item) => mark(item, tokens));
  if (typeof value === 'object' && value !== null) {
    const expression = (value as Readonly<Record<string, unknown>>)[blockKey];
    if (typeof expression === 'string') return note({ style: 'block', expression }, tokens);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mark(item, tokens)]));
  }
  return value;
}

function note(token: Token, tokens: Token[]): string {
  tokens.push(token);
  return `HELM${tokens.length - 1}TOKEN`;
}

function fill(line: string, tokens: readonly Token[]): string {
  const match = /^(?<lead>[ ]*(?:- )*(?:[^\s].*: )?)HELM(?<index>\d+)TOKEN$/.exec(line);
  if (match?.groups === undefined) return line;
  const { lead = '', index = '' } = match.groups;
  const token = tokens[Number(index)];
  if (token === undefined) throw new AssertionError(`no expression ${index}`);
  switch (token.style) {
    case 'text':
      return `${lead}{{ ${token.expression} | quote }}`;
    case 'plain':
      return `${lead}{{ ${token.expression} }}`;
    case 'block': {
      const indent = /^[ ]*(?:- )*/.exec(lead)?.[0].length ?? 0;
      return `${lead.trimEnd()} {{- toYaml (${token.expression}) | nindent ${indent + 2} }}`;
    }
  }
}
