import { parseArgs } from 'node:util';
import type { z } from 'zod';
import { InvalidInputError } from './errors.ts';

/** One option of a program: a flag, its `XTREEMOS_…` variable, and what a user has to know. */
export interface OptionSpec<T> {
  /** Validates and converts. Text arrives as a string; a boolean flag as `true` or `false`. */
  readonly schema: z.ZodType<T>;
  /** One sentence, without a full stop; names the unit. */
  readonly about: string;
  /** As a user would type it. Without one the option is required. */
  readonly default?: string;
  /** A flag that takes no value. */
  readonly isBoolean?: boolean;
  /** How the value is called in help texts, for example `MS` or `PATH`. */
  readonly value?: string;
  /** Never shown in help defaults, logs or errors. */
  readonly isSecret?: boolean;
}

/** Options by their lowerCamel name; the flag is the same in kebab-case. */
export type OptionSpecs = Readonly<Record<string, OptionSpec<unknown>>>;

/** The values that a set of options yields. */
export type OptionValues<S extends OptionSpecs> = { [K in keyof S]: S[K] extends OptionSpec<infer T> ? T : never };

/** Declares one option; exists so that each value's type is inferred from its schema. */
export function option<T>(spec: OptionSpec<T>): OptionSpec<T> {
  return spec;
}

/** `leaseDurationMs` → `lease-duration-ms`. */
export function flagOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `leaseDurationMs` → `XTREEMOS_LEASE_DURATION_MS`. */
export function variableOf(name: string): string {
  return `XTREEMOS_${flagOf(name).replaceAll('-', '_').toUpperCase()}`;
}

/**
 * Reads options from the command line, then the environment, then defaults.
 * @returns the values and the words that are no flags.
 * @throws {InvalidInputError} for an unknown flag, a missing value or one the schema refuses; the message names the
 * flag, the value and how to mend it.
 */
export function parseOptions<S extends OptionSpecs>(
  specs: S,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): { values: OptionValues<S>; words: string[] } {
  const { given, words } = readFlags(specs, argv);
  const values: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(specs)) {
    const source = given[name] ?? env[variableOf(name)] ?? spec.default;
    if (source === undefined) {
      throw new InvalidInputError(`--${flagOf(name)}`, `is required (or set ${variableOf(name)}): ${spec.about}`);
    }
    const input = spec.isBoolean === true ? toBoolean(name, source) : source;
    const result = spec.schema.safeParse(input);
    if (!result.success) {
      const problem = result.error.issues.map((issue) => issue.message).join('; ');
      const shown = spec.isSecret === true ? 'the value' : JSON.stringify(source);
      throw new InvalidInputError(`--${flagOf(name)}`, `${shown} is not valid: ${problem}. It means: ${spec.about}`);
    }
    values[name] = result.data;
  }
  return { values: values as OptionValues<S>, words };
}

function readFlags(
  specs: OptionSpecs,
  argv: readonly string[],
): { given: Record<string, string | undefined>; words: string[] } {
  const options: Record<string, { type: 'string' | 'boolean' }> = {};
  for (const [name, spec] of Object.entries(specs)) {
    options[flagOf(name)] = { type: spec.isBoolean === true ? 'boolean' : 'string' };
  }
  try {
    const parsed = parseArgs({ args: [...argv], options, allowPositionals: true, allowNegative: true });
    const given = Object.fromEntries(
      Object.keys(specs).map((name) => {
        const value = parsed.values[flagOf(name)];
        return [name, value === undefined ? undefined : String(value)];
      }),
    );
    return { given, words: parsed.positionals };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const known = Object.keys(options).map((flag) => `--${flag}`);
    throw new InvalidInputError('command line', `${message}. Known flags: ${known.join(', ')}`, { cause: error });
  }
}

function toBoolean(name: string, text: string): boolean {
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw new InvalidInputError(variableOf(name), `${JSON.stringify(text)} is not valid: use true or false`);
}

/** The help text of a program: usage, what it is for, and every option with its variable and default. */
export function helpText(usage: string, about: string, specs: OptionSpecs): string {
  const lines = Object.entries(specs).map(([name, spec]) => {
    const flag = `--${flagOf(name)}${spec.isBoolean === true ? '' : ` ${spec.value ?? 'VALUE'}`}`;
    const preset =
      spec.default === undefined
        ? 'required'
        : spec.default === '' || spec.isSecret === true
          ? ''
          : `default ${spec.default}`;
    return `  ${flag.padEnd(34)} ${spec.about} [${[variableOf(name), preset].filter((part) => part !== '').join(', ')}]`;
  });
  return `Usage: ${usage}\n\n${about}\n\nOptions:\n${lines.join('\n')}\n`;
}
