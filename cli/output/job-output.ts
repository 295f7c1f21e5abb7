/** What tasks say, on its way to the user: bytes as they are in pipes, harmless on terminals, with the task's index before each line where there are several. */
import { StringDecoder } from 'node:string_decoder';
import { escapeControls } from './escape.ts';
import type { Terminal } from './terminal.ts';

/** A line that is longer is broken. */
const lineMax = 64 * 1024;
// eslint-disable-next-line no-control-regex -- control characters are what this is about
const colour = /(\u001b\[[0-9;]{0,32}m)/;
// eslint-disable-next-line no-control-regex -- the same
const begun = /(\u001b(\[[0-9;]{0,32})?|\r)$/;

/**
 * Foreign output for a terminal: colours stay, a carriage return becomes a new line, every other control character is
 * escaped (threat 54).
 */
export function harmless(text: string): string {
  return text
    .replace(/\r\n?/g, '\n')
    .split(colour)
    .map((part, index) => (index % 2 === 1 ? part : escapeControls(part, '\n\t')))
    .join('');
}

/** The output of one task. */
export class JobOutput {
  private readonly terminal: Terminal;
  private readonly prefix: string;
  private readonly decoder = new StringDecoder('utf8');
  private rest = '';

  /** @param index - shown before each line; undefined where there is one task only. */
  constructor(terminal: Terminal, index: number | undefined) {
    this.terminal = terminal;
    this.prefix = index === undefined ? '' : `[${index}] `;
  }

  write(chunk: Buffer): void {
    if (this.prefix === '' && !this.terminal.isInteractive) {
      this.terminal.pass(chunk);
      return;
    }
    this.rest += this.decoder.write(chunk);
    this.emit(
      this.prefix === '' ? (begun.exec(this.rest)?.index ?? this.rest.length) : this.rest.lastIndexOf('\n') + 1,
    );
    if (this.rest.length > lineMax) this.emit(this.rest.length);
  }

  /** Writes what is left of a line that was not ended. */
  end(): void {
    this.rest += this.decoder.end();
    if (this.rest !== '') this.emit(this.rest.length);
  }

  private emit(length: number): void {
    const whole = this.rest.slice(0, length);
    this.rest = this.rest.slice(length);
    if (whole === '') return;
    const shown = this.terminal.isInteractive ? harmless(whole) : whole;
    this.terminal.pass(this.prefix === '' ? shown : prefixed(shown, this.prefix));
  }
}

function prefixed(text: string, prefix: string): string {
  const lines = (text.endsWith('\n') ? text.slice(0, -1) : text).split('\n');
  return lines.map((line) => `${prefix}${line}\n`).join('');
}
