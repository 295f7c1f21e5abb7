/**
 * `make test`: verify, then every tier of tests, with progress, and a plain last line `N passed, N failed`.
 * A tier that fails doesn't stop the next, so that one run tells all there is to mend. A few files that failed are run
 * once more by themselves; what passes then is told as flaky, and is to be mended too (ADR 0240).
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { describeError, InvalidInputError } from '#common/errors.ts';
import { siteTools } from '#sites/lifecycle.ts';
import { ensureTools } from '#sites/tools.ts';

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** The fields of jest's `--json` report that are counted here. */
interface JestReport {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  numRuntimeErrorTestSuites: number;
  testResults: readonly {
    /** Path of the file. */
    name: string;
    status: 'passed' | 'failed' | 'focused';
    assertionResults: readonly { status: string; fullName: string }[];
  }[];
}

/**
 * How many files of a tier are run at once, where it isn't jest's own choice. API servers of the envtests wait more than
 * they compute; the files of the e2e tier share one site and one process's harness, those of reach cut networks.
 */
const workersOf: Partial<Record<string, number>> = { envtest: 2, e2e: 1, reach: 1 };
/** Steps that are no tier of tests. */
const steps: Partial<Record<string, () => Promise<Counts>>> = { verify, programs };
/** Steps one after the other. */
type Lane = readonly string[];
/** Stages one after the other. The lanes of a stage go on at the same time, since they wait more than they compute. */
const order: readonly (readonly Lane[])[] = [
  [['verify']],
  [['unit']],
  [['sim']],
  [['programs']],
  [['envtest', 'reach'], ['e2e']],
];
const { positionals } = parseArgs({ allowPositionals: true });
const all = order.flat(2);
const stranger = positionals.find((step) => !all.includes(step));
if (stranger !== undefined) {
  throw new InvalidInputError('step', `${stranger} is none: choose from ${all.join(', ')}`);
}
const wanted = positionals.length === 0 ? all : positionals;
const chosen = order
  .map((stage) => stage.map((lane) => lane.filter((step) => wanted.includes(step))).filter(isFilled))
  .filter(isFilled);
const started = Date.now();
const scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-test-'));
const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const lines: string[] = [];
/** More files than this that fail at once are no accident of timing. */
const mostRetried = 3;
const flaky: string[] = [];
/** What counts for a tier without a report. */
const withoutReport: Counts = { passed: 0, failed: 1, skipped: 0 };

try {
  for (const [index, stage] of chosen.entries()) {
    const lanes = stage.map((lane) => lane.join(' then ')).join(' beside ');
    console.log(`\n=== ${lanes} (${index + 1} of ${chosen.length}, ${minutes(started)} min so far)`);
    const first = await Promise.all(stage.map(firstRuns));
    for (const { step, took, finish } of first.flat()) {
      const counts = await finish();
      total.passed += counts.passed;
      total.failed += counts.failed;
      total.skipped += counts.skipped;
      lines.push(
        `  ${step.padEnd(8)} ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped, ${took} min`,
      );
    }
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
console.log(`\n${lines.join('\n')}\n`);
for (const name of flaky) console.log(`flaky, passed when run by itself: ${name}`);
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;

/** A step that ran once. */
interface FirstRun {
  readonly step: string;
  readonly took: string;
  /** Runs once more what may have failed by accident. For when nothing else runs. */
  readonly finish: () => Promise<Counts>;
}

function isFilled({ length }: readonly unknown[]): boolean {
  return length > 0;
}

async function firstRuns(lane: Lane): Promise<FirstRun[]> {
  const runs: FirstRun[] = [];
  for (const step of lane) runs.push(await firstRun(step));
  return runs;
}

async function firstRun(step: string): Promise<FirstRun> {
  const begin = Date.now();
  const finish = await (steps[step]?.().then((counts) => async () => Promise.resolve(counts)) ?? tier(step));
  return { step, took: minutes(begin), finish };
}

async function verify(): Promise<Counts> {
  const status = await run('make', ['verify']);
  return { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0 };
}

/** Programs that tests run are built before the tests, so that no time limit of a test has to hold that. */
async function programs(): Promise<Counts> {
  try {
    await ensureTools(siteTools);
    return { passed: 1, failed: 0, skipped: 0 };
  } catch (error) {
    console.error(describeError(error));
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

async function tier(name: string): Promise<FirstRun['finish']> {
  const workers = workersOf[name] === undefined ? [] : [`--maxWorkers=${workersOf[name]}`];
  const first = await reported(name, jest(name, workers));
  return async () => (first === undefined ? withoutReport : await retried(name, first));
}

/** Runs a few files that failed once more by themselves. */
async function retried(name: string, first: Ran): Promise<Counts> {
  const failed = first.report.testResults.filter(({ status }) => status === 'failed');
  if (failed.length === 0 || failed.length > mostRetried) return counted(first);
  const files = failed.map((file) => file.name);
  console.log(`\n=== ${name}, once more: ${files.map((file) => path.relative('.', file)).join(', ')}`);
  const second = await reported(name, jest(name, ['--runInBand', '--runTestsByPath', ...files]));
  if (second === undefined) return withoutReport;
  const again = counted(second);
  const stillFailing = new Set(failedTests(second.report));
  flaky.push(...failedTests(first.report).filter((test) => !stillFailing.has(test)));
  const { passed, skipped } = counted(first);
  const inFailed = (wanted: (status: string) => boolean): number =>
    failed.flatMap((file) => file.assertionResults).filter(({ status }) => wanted(status)).length;
  return {
    passed: passed - inFailed((status) => status === 'passed') + again.passed,
    failed: again.failed,
    skipped: skipped - inFailed((status) => status !== 'passed' && status !== 'failed') + again.skipped,
  };
}

async function reported(name: string, run: Promise<Ran>): Promise<Ran | undefined> {
  return run.catch((error: unknown) => {
    console.error(`No report of the ${name} tests: ${describeError(error)}`);
    return undefined;
  });
}

/** Tests that failed, with their files; a file that failed as a whole is named alone. */
function failedTests({ testResults }: JestReport): string[] {
  return testResults
    .filter(({ status }) => status === 'failed')
    .flatMap(({ name, assertionResults }) => {
      const file = path.relative('.', name);
      const failed = assertionResults.filter(({ status }) => status === 'failed');
      return failed.length === 0 ? [file] : failed.map(({ fullName }) => `${file}: ${fullName}`);
    });
}

interface Ran {
  readonly status: number;
  readonly report: JestReport;
}

/** Runs a tier, or some of its files. */
async function jest(name: string, options: readonly string[]): Promise<Ran> {
  const output = path.join(scratch, `${name}.json`);
  rmSync(output, { force: true });
  const program = [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    'node_modules/jest/bin/jest.js',
  ];
  const reported = ['--passWithNoTests', '--json', `--outputFile=${output}`];
  const status = await run(process.execPath, [...program, '--selectProjects', name, ...reported, ...options], output);
  return { status, report: JSON.parse(readFileSync(output, 'utf8')) as JestReport };
}

function counted({ status, report }: Ran): Counts {
  const failed = report.numFailedTests + report.numRuntimeErrorTestSuites;
  return {
    passed: report.numPassedTests,
    // A jest that ends badly without a failed test (a crash in set-up or tear-down) is a failure all the same.
    failed: failed === 0 && status !== 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

/**
 * Runs a command with its output shown; jest's JSON on stdout is dropped since it is read from its file. With a
 * `report` to write, a command that goes on living a minute after it wrote it is ended: something in its tests was
 * left open, and its counts are in the report.
 */
async function run(command: string, args: string[], report?: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', report === undefined ? 'inherit' : 'ignore', 'inherit'] });
    let writtenAt: number | undefined;
    const watch = setInterval(() => {
      if (report !== undefined && existsSync(report)) writtenAt ??= Date.now();
      if (writtenAt === undefined || Date.now() - writtenAt < 60_000) return;
      console.error(`Tests of ${args.join(' ')} ended a minute ago and left something open: ending their process`);
      child.kill('SIGKILL');
    }, 1000);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      clearInterval(watch);
      resolve(code ?? (signal !== null && writtenAt !== undefined ? 0 : 1));
    });
  });
}

function minutes(since: number): string {
  return ((Date.now() - since) / 60_000).toFixed(1);
}
