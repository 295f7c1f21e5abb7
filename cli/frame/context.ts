import type { Clock } from '#common/clock.ts';
import type { Area } from './command.ts';
import type { Terminal } from '../output/terminal.ts';

/** Where settings, environment and files of the user are. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly homeDir: string;
}

/** What every command gets besides its input. Tests bring their own. */
export interface Context {
  readonly terminal: Terminal;
  readonly surroundings: Surroundings;
  readonly clock: Clock;
  /** Aborts on Ctrl-C. */
  readonly signal: AbortSignal;
  /** How the program was called: `xos` or `kubectl xos`; for hints that can be typed. */
  readonly program: string;
  /** Everything that can be called; for completion. */
  readonly areas: readonly Area[];
  /** Version of the product. */
  readonly version: string;
}
