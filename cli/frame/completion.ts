/**
 * What a shell may offer next. The answer has the form that cobra gave to kubectl and its plugins: a line per
 * candidate (value, tab, meaning), then a colon and a directive.
 */
import { flagOf } from '#common/options.ts';
import { escapeControls } from '../output/escape.ts';
import type { AnyCommand, Area, Completable, OptionDefinition } from './command.ts';

/** Directives of cobra (`ShellCompDirective`): the shell completes files itself, or nothing but what is listed. */
const directives = { files: 0, listedOnly: 4 } as const;

/** One candidate. */
interface Candidate {
  readonly value: string;
  readonly about: string;
}

/** Finds the names that exist. Options already typed come along, since they choose cluster and organization. */
export type FindNames = (
  what: Exclude<Completable, 'file'>,
  options: ReadonlyMap<string, string>,
) => Promise<readonly Candidate[]>;

interface Position {
  readonly command: AnyCommand | undefined;
  /** Words of the path and arguments, without options. */
  readonly words: readonly string[];
  readonly options: ReadonlyMap<string, string>;
  /** Set when the last whole word was an option that takes a value. */
  readonly pending: OptionDefinition<unknown> | undefined;
}

/**
 * The answer for a line.
 * @param line - words after the program's name; the last is what is being typed, perhaps empty.
 */
export async function complete(areas: readonly Area[], line: readonly string[], findNames: FindNames): Promise<string> {
  const commands = areas.flatMap((area) => area.commands);
  const [before, typed] = splitAssignment(line);
  const position = positionOf(commands, before);
  const { candidates, directive } = await candidatesAt(areas, position, typed, findNames);
  const fitting = candidates.filter(({ value }) => value.startsWith(typed));
  const lines = fitting.map(({ value, about }) => `${escapeControls(value)}\t${escapeControls(about)}`);
  return [...lines, `:${directives[directive]}`].join('\n');
}

/** Bash splits `--output=js` into three words; zsh and fish keep one. Both become two. */
function splitAssignment(line: readonly string[]): [before: string[], typed: string] {
  const words = line.flatMap((word, index) => {
    const isLast = index === line.length - 1;
    const equals = /^(--[a-z-]+)=(.*)$/s.exec(word);
    if (equals !== null) return [equals[1] ?? '', equals[2] ?? ''];
    if (word === '=' && line[index - 1]?.startsWith('--') === true) return isLast ? [''] : [];
    return [word];
  });
  return [words.slice(0, -1), words.at(-1) ?? ''];
}

function positionOf(commands: readonly AnyCommand[], before: readonly string[]): Position {
  const words: string[] = [];
  const options = new Map<string, string>();
  let command: AnyCommand | undefined;
  let pending: [key: string, option: OptionDefinition<unknown>] | undefined;
  for (const word of before) {
    if (pending !== undefined) {
      options.set(pending[0], word);
      pending = undefined;
    } else if (word.startsWith('-')) {
      const found = command === undefined ? undefined : optionNamed(command, word);
      if (found?.[1].placeholder !== undefined) pending = found;
    } else {
      words.push(word);
      command ??= commands.find(({ path }) => path === words.join(' '));
    }
  }
  // Where an argument names the organization, it says so as `--vo` would.
  const given = command === undefined ? [] : words.slice(command.path.split(' ').length);
  Object.values(command?.args ?? {}).forEach(({ complete: what }, index) => {
    const word = given[index];
    if (what === 'vo' && word !== undefined) options.set('vo', word);
  });
  return { command, words, options, pending: pending?.[1] };
}

function optionNamed(command: AnyCommand, word: string): [string, OptionDefinition<unknown>] | undefined {
  return Object.entries(command.options).find(([key, { short }]) => {
    return word === `--${flagOf(key)}` || (short !== undefined && word === `-${short}`);
  });
}

async function candidatesAt(
  areas: readonly Area[],
  { command, words, options, pending }: Position,
  typed: string,
  findNames: FindNames,
): Promise<{ candidates: readonly Candidate[]; directive: keyof typeof directives }> {
  const named = async (what: Completable | undefined) => {
    if (what === 'file') return { candidates: [], directive: 'files' as const };
    return { candidates: what === undefined ? [] : await findNames(what, options), directive: 'listedOnly' as const };
  };
  if (pending !== undefined) {
    if (pending.choices === undefined) return named(pending.complete);
    return { candidates: pending.choices.map((value) => ({ value, about: '' })), directive: 'listedOnly' };
  }
  if (command === undefined) return { candidates: nextWords(areas, words), directive: 'listedOnly' };
  if (typed.startsWith('-')) return { candidates: flagsOf(command), directive: 'listedOnly' };
  const given = words.length - command.path.split(' ').length;
  const definitions = Object.values(command.args);
  const next = definitions[given] ?? (definitions.at(-1)?.isVariadic === true ? definitions.at(-1) : undefined);
  return named(next?.complete);
}

function nextWords(areas: readonly Area[], words: readonly string[]): Candidate[] {
  const prefix = words.length === 0 ? '' : `${words.join(' ')} `;
  const found = new Map<string, string>();
  for (const area of areas) {
    const groups = area.group === undefined ? [] : [area.group];
    for (const { path, about } of [...groups, ...area.commands.filter(({ isHidden }) => isHidden !== true)]) {
      if (!path.startsWith(prefix)) continue;
      const rest = path.slice(prefix.length);
      if (!rest.includes(' ')) found.set(rest, about);
    }
  }
  return [...found].map(([value, about]) => ({ value, about }));
}

function flagsOf(command: AnyCommand): Candidate[] {
  const own = Object.entries(command.options).map(([key, { about }]) => ({ value: `--${flagOf(key)}`, about }));
  return [...own, { value: '--help', about: 'Show how it is used' }];
}
