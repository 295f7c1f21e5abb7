import { parseArgs } from 'node:util';
import { InvalidInputError } from '#common/errors.ts';

/** Where a command writes and what it was given by the shell. */
export interface CommandIo {
  /** One line of a result. */
  readonly print: (line: string) => void;
  /** One line of progress or a hint: standard error. */
  readonly note: (line: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborts when the user wants the command to end (Ctrl-C, SIGTERM). */
  readonly signal: AbortSignal;
  /** Program and arguments that run this program again. */
  readonly self: readonly [string, ...string[]];
}

/** One command of the program, under upstream's name or a short one. */
export interface Command {
  /** The first one is shown in help. */
  readonly names: readonly string[];
  readonly usage: string;
  readonly about: string;
  /** @returns the exit status. */
  run(argv: readonly string[], io: CommandIo): Promise<number>;
}

/** One option of a tool, with upstream's name. */
export interface ToolOption {
  readonly short?: string;
  readonly isFlag?: boolean;
  /** May be given several times. */
  readonly isList?: boolean;
  readonly about: string;
  readonly value?: string;
}

/** Options that were given: text, `true` for flags, lists for options that may repeat. */
export class ToolOptions {
  private readonly values: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>;
  /** Words that are no options. */
  readonly words: readonly string[];

  constructor(
    values: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>,
    words: readonly string[],
  ) {
    this.values = values;
    this.words = words;
  }

  has(name: string): boolean {
    return this.values[name] !== undefined && this.values[name] !== false;
  }

  text(name: string): string | undefined {
    const value = this.values[name];
    return typeof value === 'string' ? value : undefined;
  }

  list(name: string): string[] {
    const value = this.values[name];
    return Array.isArray(value) ? value.map(String) : [];
  }

  /** @throws {InvalidInputError} when it is no whole number from `min` on. */
  number(name: string, fallback: number, min = 0): number {
    const text = this.text(name);
    if (text === undefined) return fallback;
    const value = Number(text);
    if (!Number.isInteger(value) || value < min) {
      throw new InvalidInputError(`--${name}`, `${JSON.stringify(text)} is no whole number from ${min} on`);
    }
    return value;
  }

  /** The word at `index`. @throws {InvalidInputError} when it is missing. */
  word(index: number, what: string): string {
    const word = this.words[index];
    if (word === undefined) throw new InvalidInputError(what, 'is missing: see --help');
    return word;
  }
}

/**
 * Reads a tool's options.
 * @throws {InvalidInputError} for an unknown option or a missing value.
 */
export function parseTool(options: Readonly<Record<string, ToolOption>>, argv: readonly string[]): ToolOptions {
  const known: NonNullable<Parameters<typeof parseArgs>[0]>['options'] = {};
  for (const [name, option] of Object.entries(options)) {
    known[name] = {
      type: option.isFlag === true ? 'boolean' : 'string',
      ...(option.short === undefined ? {} : { short: option.short }),
      ...(option.isList === true ? { multiple: true } : {}),
    };
  }
  try {
    const parsed = parseArgs({ args: [...argv], options: known, allowPositionals: true });
    return new ToolOptions(parsed.values, parsed.positionals);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new InvalidInputError('command line', `${message}. See --help`, { cause: error });
  }
}

/** Help of a tool: usage, what it is for, its options. */
export function toolHelp(
  command: Pick<Command, 'usage' | 'about'>,
  options: Readonly<Record<string, ToolOption>>,
): string {
  const lines = Object.entries(options).map(([name, option]) => {
    const value = option.isFlag === true ? '' : ` ${option.value ?? 'VALUE'}`;
    const flag = `${option.short === undefined ? '    ' : `-${option.short}, `}--${name}${value}`;
    return `  ${flag.padEnd(40)} ${option.about}`;
  });
  return [`Usage: ${command.usage}`, '', command.about, '', 'Options:', ...lines].join('\n');
}
