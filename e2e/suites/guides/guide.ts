/** A guide of `docs/` as a program: its commands are typed into a shell as they stand, and what they print is compared with what it shows. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Commands of a guide, and what it says that they print. */
export interface Step {
  /** Heading under which they stand. */
  readonly heading: string;
  readonly script: string;
  /** Absent where the guide shows nothing. */
  readonly printed?: string;
}

/** The blocks of commands (`sh`) in a guide; a block `text` right after one is what it prints. */
export function readSteps(markdown: string): Step[] {
  const steps: Step[] = [];
  let heading = '';
  const parts = markdown.matchAll(/^#+ (?<heading>[^\n]*)$|^```(?<language>\w+)\n(?<body>.*?)\n```$/gms);
  for (const { groups = {} } of parts) {
    const { language, body = '' } = groups;
    if (groups.heading !== undefined) heading = groups.heading;
    else if (language === 'sh') steps.push({ heading, script: body });
    else if (language === 'text') {
      const last = steps.pop();
      if (last === undefined || last.printed !== undefined) throw new Error(`what prints this? ${body}`);
      steps.push({ ...last, printed: body });
    }
  }
  return steps;
}

/** Reads the steps of a file. */
export function readGuide(file: string): Step[] {
  return readSteps(readFileSync(file, 'utf8'));
}

/**
 * Compares what commands printed with what a guide shows. Times, ages, counts and the width of columns may be others; a
 * number of seven digits or more, such as a user id, must be the same wherever the guide has the same. A line `…` in the
 * guide stands for any lines.
 */
export class Comparison {
  private readonly numbers = new Map<string, string>();

  /** @returns the first line of the guide that was not printed in its place; undefined when all were. */
  missing(shown: string, printed: string): string | undefined {
    const lines = printed.split('\n').map(withoutSpace);
    let next = 0;
    let isLoose = false;
    for (const line of shown.split('\n').map(withoutSpace)) {
      if (line === '…') {
        isLoose = true;
        continue;
      }
      const found = lines.findIndex((each, index) => index >= next && this.isLike(line, each));
      if (found === -1 || (!isLoose && found !== next)) return line;
      next = found + 1;
      isLoose = false;
    }
    const rest = lines.slice(next).filter((line) => line !== '');
    return isLoose || rest.length === 0 ? undefined : `(nothing, but there was: ${rest.join('\n')})`;
  }

  private isLike(shown: string, printed: string): boolean {
    const [theirs, ours] = [tokens(shown), tokens(printed)];
    const met = new Map(this.numbers);
    const isSame =
      theirs.length === ours.length &&
      theirs.every((each, index) => {
        const own = ours[index] ?? '';
        if (!/^\d{7,}$/.test(each)) return each === own;
        if (!met.has(each) && /^\d{7,}$/.test(own)) met.set(each, own);
        return met.get(each) === own;
      });
    if (isSame) for (const [key, value] of met) this.numbers.set(key, value);
    return isSame;
  }
}

const withoutSpace = (line: string): string => line.replaceAll(/\s+/g, ' ').trim();

/** The words of a line, with one word for every time and age and for every short number that stands alone. */
function tokens(line: string): string[] {
  return line
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replaceAll(/\b(?:\d+[dhms])+\b/g, 'AGE')
    .replaceAll(/(?<![\w-])\d{1,6}(?![\w-])/g, 'COUNT')
    .split(/(\d{7,})/);
}

/** A shell that goes on from block to block, as a terminal does. */
export class Terminal {
  private readonly shell: ChildProcessWithoutNullStreams;
  private output = '';
  private blocks = 0;

  constructor(options: { readonly cwd: string; readonly env: Readonly<Record<string, string | undefined>> }) {
    this.shell = spawn('bash', ['--noprofile', '--norc'], options);
    for (const stream of [this.shell.stdout, this.shell.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => (this.output += chunk));
    }
    this.shell.stdin.on('error', () => undefined); // a shell that ended is told by its missing answer
  }

  /**
   * Types a block and waits for its end.
   * @returns what it printed, also to standard error, and the status of its last command.
   * @throws when it did not end in `limitMs`, with what it had printed.
   */
  async type(script: string, limitMs: number): Promise<{ printed: string; status: number }> {
    const mark = `end-of-block-${++this.blocks}`;
    this.output = '';
    this.shell.stdin.write(`{\n${script}\n} < /dev/null 2>&1\nprintf '\\n%s %s\\n' ${mark} $?\n`);
    const ended = Promise.withResolvers<RegExpExecArray>();
    const look = (): void => {
      const found = new RegExp(`\\n${mark} (\\d+)\\n`).exec(this.output);
      if (found !== null) ended.resolve(found);
    };
    const fail = (why: string) => (): void => {
      ended.reject(new Error(`${why}:\n${script}\nIt had printed:\n${this.output.slice(-4000)}`));
    };
    const timer = setTimeout(fail(`this did not end in ${limitMs / 1000} s`), limitMs);
    const onExit = fail('the shell ended in this');
    this.shell.stdout.on('data', look);
    this.shell.once('exit', onExit);
    try {
      const [whole, status] = await ended.promise;
      const printed = this.output.slice(0, this.output.indexOf(whole));
      return { printed: printed.trimEnd(), status: Number(status) };
    } finally {
      clearTimeout(timer);
      this.shell.stdout.off('data', look);
      this.shell.off('exit', onExit);
    }
  }

  /** Ends the shell. What it had left running in the background ends by itself. */
  close(): void {
    this.shell.stdin.end();
    this.shell.kill();
  }
}
