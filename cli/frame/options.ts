/** The kinds of arguments and options that commands declare, and those that many commands share. */
import { InvalidInputError } from '#common/errors.ts';
import type { ArgumentDefinition, Completable, OptionDefinition } from './command.ts';

/** One word that must be there. */
export function required(about: string, complete?: Completable): ArgumentDefinition<string> {
  return { about, complete, isRequired: true, isVariadic: false };
}

/** One word that may be there. */
export function optional(about: string, complete?: Completable): ArgumentDefinition<string | undefined> {
  return { about, complete, isRequired: false, isVariadic: false };
}

/** One word or more. */
export function several(about: string, complete?: Completable): ArgumentDefinition<readonly string[]> {
  return { about, complete, isRequired: true, isVariadic: true };
}

interface More {
  readonly short?: string;
  readonly complete?: Completable;
}

/** A switch. */
export function flag(about: string, more: More = {}): OptionDefinition<boolean> {
  return { about, ...more, isRepeatable: false, fallback: false, parse: () => true };
}

/** A word. */
export function word(about: string, placeholder: string, more: More = {}): OptionDefinition<string | undefined> {
  return { about, placeholder, ...more, isRepeatable: false, fallback: undefined, parse: (text) => text };
}

/** Words: the flag may be given several times, and each value may hold several, separated by commas. */
export function words(about: string, placeholder: string, more: More = {}): OptionDefinition<readonly string[]> {
  return {
    about: `${about}; may be repeated, or list several with commas`,
    placeholder,
    ...more,
    isRepeatable: true,
    fallback: [],
    parse: (text) => text.split(',').filter((part) => part !== ''),
  };
}

/** Texts: the flag may be given several times; commas are part of the text. */
export function texts(about: string, placeholder: string, more: More = {}): OptionDefinition<readonly string[]> {
  return {
    about: `${about}; may be repeated`,
    placeholder,
    ...more,
    isRepeatable: true,
    fallback: [],
    parse: (text) => [text],
  };
}

/** One of a few words. Upper and lower case are taken as the same. */
export function choice<const C extends string, const D extends C | undefined>(
  about: string,
  placeholder: string,
  choices: readonly C[],
  fallback: D,
  more: More = {},
): OptionDefinition<C | D> {
  return {
    about,
    placeholder,
    choices,
    ...more,
    isRepeatable: false,
    fallback,
    shownDefault: fallback,
    parse: (text, name) => {
      const found = choices.find((one) => one.toLowerCase() === text.toLowerCase());
      if (found === undefined) {
        throw new InvalidInputError(name, `${JSON.stringify(text)} is not one of ${choices.join(', ')}`);
      }
      return found;
    },
  };
}

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Milliseconds of a text such as `90s`, `5m`, `1h30m` or `14d`.
 * @throws {InvalidInputError} for anything else.
 */
export function parseDurationMs(text: string, name: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/gy)];
  const length = parts.reduce((sum, [whole]) => sum + whole.length, 0);
  if (parts.length === 0 || length !== text.length) {
    throw new InvalidInputError(name, `${JSON.stringify(text)} is not a duration: write it like 90s, 5m, 1h30m or 14d`);
  }
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (unitsMs[unit ?? ''] ?? 0), 0);
}

/** A duration in milliseconds. */
export function duration(about: string, fallback: string): OptionDefinition<number> {
  return {
    about,
    placeholder: 'DURATION',
    isRepeatable: false,
    fallback: parseDurationMs(fallback, 'default'),
    shownDefault: fallback,
    parse: parseDurationMs,
  };
}

/** A whole number of seconds from 0. */
export function seconds(about: string): OptionDefinition<number | undefined> {
  return {
    about,
    placeholder: 'DURATION',
    isRepeatable: false,
    fallback: undefined,
    parse: (text, name) => Math.round(parseDurationMs(text, name) / 1000),
  };
}

function parseWhole(text: string, name: string, min: number, max: number): number {
  if (!/^-?[0-9]{1,9}$/.test(text) || Number(text) < min || Number(text) > max) {
    throw new InvalidInputError(name, `${JSON.stringify(text)} is no whole number from ${min} to ${max}`);
  }
  return Number(text);
}

/** A whole number. */
export function whole<const D extends number | undefined>(
  about: string,
  { min, max }: { readonly min: number; readonly max: number },
  fallback: D,
  more: More = {},
): OptionDefinition<number | D> {
  return {
    about,
    placeholder: 'N',
    ...more,
    isRepeatable: false,
    fallback,
    shownDefault: fallback?.toString(),
    parse: (text, name) => parseWhole(text, name, min, max),
  };
}

/** How results are printed. */
export const outputFormats = ['table', 'wide', 'json', 'yaml', 'name'] as const;
export type OutputFormat = (typeof outputFormats)[number];

/** Options of commands that talk to a cluster. */
export const clusterOptions = {
  context: word('Context of the kubeconfig to use; default: the current one', 'NAME', { complete: 'context' }),
  kubeconfig: word('Kubeconfig file; default: KUBECONFIG, then ~/.kube/config', 'FILE', { complete: 'file' }),
};

/** Options of commands about one virtual organization. */
export const organizationOptions = {
  vo: word('Virtual organization; default: that of the namespace or context', 'VO', { complete: 'vo' }),
  namespace: word('Its namespace, as kubectl takes it', 'NAMESPACE', { short: 'n', complete: 'namespace' }),
  ...clusterOptions,
};

/** The option of commands that print objects. */
export const outputOption = {
  output: choice('How to print the result', 'FORMAT', outputFormats, 'table', { short: 'o' }),
};

/** The option of commands that change or end something that is hard to bring back. */
export const dryRunOption = {
  dryRun: flag('Let the server check everything, but change nothing'),
};

/** Options of commands whose effect takes a moment. */
export const waitOptions = {
  wait: flag('Wait until it is in force'),
  timeout: duration('How long to wait at most', '60s'),
};
