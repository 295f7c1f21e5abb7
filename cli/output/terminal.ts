/** The two streams of a command: results on stdout, everything else on stderr. */
import { styleText } from 'node:util';
import { escapeControls } from './escape.ts';

/** The part of a stream that is used. */
export interface OutputStream {
  write(text: string | Uint8Array): boolean;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** Colours by what they mean. */
type Style = 'error' | 'warning' | 'heading' | 'quiet';
const styles = { error: ['red', 'bold'], warning: ['yellow'], heading: ['bold'], quiet: ['dim'] } as const;

/** Columns of a terminal that does not say. */
const widthUsual = 80;

/** Turns of the sign that shows that something goes on. */
const turns = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/**
 * What a command says and where. Progress and hints appear only when stderr is a terminal, so that pipes and logs
 * stay quiet. Colours follow NO_COLOR and the terminal (https://no-color.org).
 */
export class Terminal {
  private readonly out: OutputStream;
  private readonly err: OutputStream;
  private readonly env: Readonly<Record<string, string | undefined>>;
  private isProgressShown = false;
  private turn = 0;

  constructor(out: OutputStream, err: OutputStream, env: Readonly<Record<string, string | undefined>>) {
    this.out = out;
    this.err = err;
    this.env = env;
  }

  /** True when a person may be reading results directly. */
  get isInteractive(): boolean {
    return this.out.isTTY === true;
  }

  /** True when a person may be reading messages. */
  get showsProgress(): boolean {
    return this.err.isTTY === true;
  }

  /** Prints a result as it is; the caller has escaped foreign text. */
  print(text: string): void {
    this.clear();
    this.out.write(text.endsWith('\n') ? text : `${text}\n`);
  }

  /** Shows a result in place of what the screen shows. */
  redraw(text: string): void {
    this.clear();
    this.out.write(`\u001b[H\u001b[2J${text}\n`);
  }

  /** Passes on what a program of the user says, as it is. */
  pass(output: string | Uint8Array): void {
    this.clear();
    this.out.write(output);
  }

  /** Passes on what a program of the user says on its standard error. */
  passError(output: string | Uint8Array): void {
    this.clear();
    this.err.write(output);
  }

  /** A heading of a result, bold on terminals. */
  heading(text: string): string {
    return this.paint('heading', text, this.out);
  }

  /** Something that needs attention; always shown. */
  warn(text: string): void {
    this.clear();
    this.err.write(`${this.paint('warning', 'warning:', this.err)} ${escapeControls(text, '\n')}\n`);
  }

  /** Why the command fails; always shown. */
  error(text: string, remedy?: string): void {
    this.clear();
    this.err.write(`${this.paint('error', 'error:', this.err)} ${escapeControls(text, '\n')}\n`);
    if (remedy !== undefined) this.err.write(`${escapeControls(remedy, '\n')}\n`);
  }

  /** Something the user must read to go on, for example a code to type; always shown, on stderr. */
  say(text: string): void {
    this.clear();
    this.err.write(`${escapeControls(text, '\n')}\n`);
  }

  /** What to do next; only for people. */
  hint(text: string): void {
    if (!this.showsProgress) return;
    this.clear();
    this.err.write(`${this.paint('quiet', escapeControls(text, '\n'), this.err)}\n`);
  }

  /** What goes on, on one line that the next message replaces; only for people. */
  progress(text: string): void {
    if (!this.showsProgress) return;
    this.turn = (this.turn + 1) % turns.length;
    // Some terminals say that they have no columns at all.
    const columns = this.err.columns ?? 0;
    const width = Math.max(20, (columns > 0 ? columns : widthUsual) - 3);
    const shown = Array.from(escapeControls(text)).slice(0, width).join('');
    this.err.write(`\r\u001b[2K${this.paint('quiet', `${turns[this.turn] ?? ''} ${shown}`, this.err)}`);
    this.isProgressShown = true;
  }

  /** Takes the line of progress away. */
  clear(): void {
    if (!this.isProgressShown) return;
    this.isProgressShown = false;
    this.err.write('\r\u001b[2K');
  }

  private paint(style: Style, text: string, stream: OutputStream): string {
    const isForced = (this.env.FORCE_COLOR ?? '') !== '' && this.env.FORCE_COLOR !== '0';
    const isOff = (this.env.NO_COLOR ?? '') !== '' || this.env.TERM === 'dumb';
    if (isOff || (stream.isTTY !== true && !isForced)) return text;
    return styleText([...styles[style]], text, { validateStream: false });
  }
}
