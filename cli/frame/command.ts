/**
 * How a command is declared: what it is called, takes and means, and where its code is. Declarations are light and
 * always loaded, since help, completion and the reference are made from them; code is loaded when the command runs.
 */
import type { Context } from './context.ts';

/** What the words of an argument or the value of an option name, so that a shell can complete them. */
export type Completable = 'vo' | 'member' | 'group' | 'role' | 'job' | 'volume' | 'context' | 'namespace' | 'file';

/** One positional argument. `T` is what the command gets. */
export interface ArgumentDefinition<T> {
  readonly about: string;
  readonly complete: Completable | undefined;
  readonly isRequired: boolean;
  readonly isVariadic: boolean;
  /** Carries the type; nothing exists at run time. */
  readonly value?: T;
}

/** One option. Its flag is the key in kebab-case. `T` is what the command gets. */
export interface OptionDefinition<T> {
  readonly about: string;
  /** One letter. */
  readonly short?: string | undefined;
  /** How the value is called in help texts, for example `VO`; absent for a switch. */
  readonly placeholder?: string | undefined;
  readonly choices?: readonly string[] | undefined;
  readonly complete?: Completable | undefined;
  readonly isRepeatable: boolean;
  /** As the help shows it. */
  readonly shownDefault?: string | undefined;
  readonly fallback: T;
  /** Converts one word. @throws {InvalidInputError} whose message names the flag, the value and the remedy. */
  parse(word: string, flag: string): unknown;
}

type Arguments = Readonly<Record<string, ArgumentDefinition<unknown>>>;
type Options = Readonly<Record<string, OptionDefinition<unknown>>>;
type ValueOf<D> = D extends ArgumentDefinition<infer T> & { isVariadic: boolean }
  ? T
  : D extends OptionDefinition<infer T>
    ? T
    : never;

/** What a command gets: its arguments and options by name. */
export type Input<A extends Arguments, O extends Options> = { readonly [K in keyof A]: ValueOf<A[K]> } & {
  readonly [K in keyof O]: ValueOf<O[K]>;
};

/** Runs a command; what it throws becomes a message and an exit status (exit.ts). A number is the exit status. */
export type Run<I> = (context: Context, input: I) => Promise<number | undefined> | Promise<void>;

/** One line that can be typed, and what it does. */
export interface Example {
  readonly does: string;
  readonly line: string;
}

/** All that is known of one command. */
export interface CommandDefinition<A extends Arguments = Arguments, O extends Options = Options> {
  /** Words after `xos`, for example `vo create`. */
  readonly path: string;
  /** One sentence, without a full stop. */
  readonly about: string;
  /** More, in paragraphs. */
  readonly details?: string | undefined;
  readonly args: A;
  readonly options: O;
  /** At least one: users read examples first. */
  readonly examples: readonly [Example, ...Example[]];
  /** Other ways to write the words after the path that users know from elsewhere, as `kill -9 JOB`. Pure. */
  readonly rewrite?: ((words: readonly string[]) => readonly string[]) | undefined;
  /** Left out of help and reference: for programs that call back. */
  readonly isHidden?: boolean | undefined;
  load(): Promise<Run<Input<A, O>>>;
}

/** A command of any shape, as the frame handles it. */
export type AnyCommand = Omit<CommandDefinition, 'load'> & { load(): Promise<Run<never>> };

/** Declares a command; exists so that the types of its arguments and options reach its code. */
export function defineCommand<A extends Arguments, O extends Options>(
  definition: CommandDefinition<A, O>,
): CommandDefinition<A, O> {
  return definition;
}

/** A group of commands, for its line in the help of its parent. */
export interface GroupDefinition {
  readonly path: string;
  readonly about: string;
}

/** One area of the command line: what commands/AREA/index.ts exports. */
export interface Area {
  /** Heading of the commands that stand on their own, in help and reference. */
  readonly title?: string | undefined;
  readonly group?: GroupDefinition | undefined;
  readonly commands: readonly AnyCommand[];
}
