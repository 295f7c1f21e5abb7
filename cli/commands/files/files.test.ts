/** Copies with the real tools of this machine: the volume is a folder, and a session's shell runs beside it. */
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ConnectionError } from '#runtime/errors.ts';
import { aContext, type FakeContext } from '../../testing/fakes.ts';
import { aJobApi, aTaskPod, type FakeJobs } from '../../testing/jobs.ts';
import { copyFiles, directionOf, listPlace } from './copy.ts';
import { parsePlace } from './place.ts';

const cluster = { context: undefined, kubeconfig: undefined, vo: undefined, namespace: undefined };
const given = { ...cluster, image: 'busybox:1' };

let here: string;
let volume: string;
beforeEach(() => {
  here = mkdtempSync(path.join(tmpdir(), 'xos-here-'));
  volume = mkdtempSync(path.join(tmpdir(), 'xos-volume-'));
});
afterEach(() => {
  for (const folder of [here, volume]) rmSync(folder, { recursive: true });
});

/** What goes wrong with a command, by its number, and what is seen of its output. */
interface Faults {
  readonly breaks?: (script: string) => boolean;
  readonly spoils?: boolean;
}

/** Sessions whose volume is the folder. */
function anApi({ breaks, spoils = false }: Faults = {}): FakeJobs {
  const pods = [aTaskPod('p', { isRunning: true })];
  const api = aJobApi([], pods);
  return {
    ...api,
    podsOf: async () => Promise.resolve(pods),
    connect: async (_pod, { command = [] }, streams, signal) => {
      const [shell = '', flag = '', script = '', zero = '', ...args] = command;
      if (script.startsWith('cat > /dev/null; kill')) {
        await pipeline(Readable.from(streams.stdin ?? []), new PassThrough().resume());
        return 0;
      }
      if (breaks?.(script) === true)
        throw new ConnectionError({ method: 'GET', path: '/exec' }, 'reset', { maySent: true });
      const real = args.map((arg) => arg.replace(/^\/volume/, volume));
      const child = spawn(shell, [flag, script, zero, ...real], { signal });
      child.stdout.on('data', (chunk: Buffer) => {
        const seen = Buffer.from(chunk.toString('latin1').replaceAll(volume, '/volume'), 'latin1');
        if (spoils && script.startsWith('exec cat')) seen[0] = (seen[0] ?? 0) ^ 1;
        void streams.onStdout(seen);
      });
      child.stderr.on('data', (chunk: Buffer) => void streams.onStderr(chunk));
      const sent =
        streams.stdin === undefined
          ? child.stdin.end()
          : pipeline(Readable.from(streams.stdin), child.stdin).catch(() => undefined);
      const status = await new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? 1)));
      await sent;
      return status;
    },
  };
}

async function copy(
  source: string,
  target: string,
  more: { recursive?: boolean; api?: FakeJobs; context?: FakeContext } = {},
): Promise<FakeContext> {
  const { recursive = false, api = anApi(), context = aContext({ isTerminal: true }) } = more;
  const input = { ...given, source, target, recursive };
  await copyFiles(context, input, directionOf(input), api).finally(() => {
    // No session stays behind, however it went.
    expect([...api.jobs.stored.keys()]).toEqual([]);
  });
  return context;
}

/** Relative names of all files below a folder, with what they hold. */
function tree(folder: string): Record<string, string> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const names = entries.map(({ parentPath, name }) => path.relative(folder, path.join(parentPath, name)));
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(path.join(folder, name), 'latin1')]));
}

const files = { 'a b': 'one', [`it's "$HOME"`]: 'two', '-rf': '', 'deep/er/ü\n.bin': '\0\u00ff'.repeat(100_000) };

function fill(folder: string, content: Readonly<Record<string, string>> = files): void {
  for (const [name, text] of Object.entries(content)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text, 'latin1');
  }
}

describe('xos cp', () => {
  test('brings a folder there and back, byte by byte, whatever its files are called', async () => {
    fill(path.join(here, 'src'));
    chmodSync(path.join(here, 'src/a b'), 0o750);
    await copy(path.join(here, 'src'), 'data:', { recursive: true });
    expect(tree(path.join(volume, 'src'))).toEqual(tree(path.join(here, 'src')));
    expect(statSync(path.join(volume, 'src/a b')).mode & 0o777).toBe(0o750);
    await copy('data:src', path.join(here, 'back'), { recursive: true });
    expect(tree(path.join(here, 'back'))).toEqual(tree(path.join(here, 'src')));
  });

  test('puts a file into a folder that is there, and else gives it the name', async () => {
    fill(here, { f: 'text' });
    mkdirSync(path.join(volume, 'folder'));
    await copy(path.join(here, 'f'), 'data:folder');
    await copy(path.join(here, 'f'), 'data:new/name');
    await copy('data:folder/f', `${here}/got/`);
    await copy('data:new/name', path.join(here, 'g'));
    expect(tree(volume)).toEqual({ 'folder/f': 'text', 'new/name': 'text' });
    expect(tree(here)).toEqual({ f: 'text', g: 'text', 'got/f': 'text' });
  });

  test('does not copy again what is there already, and tells', async () => {
    fill(path.join(here, 'src'), { a: '1', b: '2' });
    fill(path.join(volume, 'src'), { a: '1', b: 'other' });
    const before = statSync(path.join(volume, 'src/a')).ino;
    const context = await copy(path.join(here, 'src'), 'data:', { recursive: true });
    expect(context.stderr()).toMatch(/1 file copied; 1 were there already/);
    expect(statSync(path.join(volume, 'src/a')).ino).toBe(before);
    expect(tree(path.join(volume, 'src'))).toEqual({ a: '1', b: '2' });
  });

  test('tries a file again when its connection broke, and not for ever', async () => {
    fill(here, { f: 'text' });
    let broken = 0;
    const twice = anApi({ breaks: (script) => script.startsWith('part=') && ++broken <= 2 });
    await copy(path.join(here, 'f'), 'data:', { api: twice });
    expect(tree(volume)).toEqual({ f: 'text' });
    const always = anApi({ breaks: (script) => script.startsWith('part=') });
    await expect(copy(path.join(here, 'f'), 'data:g', { api: always })).rejects.toThrow(/reset/);
  });

  test('keeps no file whose bytes are not those of the source', async () => {
    fill(volume, { f: 'text' });
    await expect(copy('data:f', path.join(here, 'f'), { api: anApi({ spoils: true }) })).rejects.toThrow(
      /f was not copied: it changed while it was copied/,
    );
    expect(tree(here)).toEqual({});
  });

  test('goes on with the others when one can not be copied', async () => {
    fill(path.join(here, 'src'), { a: '1', b: '2', c: '3' });
    mkdirSync(path.join(volume, 'src/b'), { recursive: true });
    await expect(copy(path.join(here, 'src'), 'data:', { recursive: true })).rejects.toThrow(
      /src\/b was not copied: a folder is in its place\n2 files copied/,
    );
    expect(tree(volume)).toMatchObject({ 'src/a': '1', 'src/c': '3' });
  });

  test.each([
    ['a folder without --recursive', 'src', 'data:', /is a folder/],
    ['what is not there', 'nothing', 'data:', /nothing can not be read/],
  ])('refuses %s', async (_, source, target, problem) => {
    mkdirSync(path.join(here, 'src'));
    await expect(copy(path.join(here, source), target)).rejects.toThrow(problem);
  });

  test('says what is missing on the volume, and which folder is one', async () => {
    await expect(copy('data:nothing', here)).rejects.toThrow(/data:nothing can not be read: .*No such file/);
    await expect(copy('data:', here)).rejects.toThrow(/data: is a folder/);
  });

  test('shows a bar on a terminal, and says nothing in a pipe', async () => {
    fill(here, { f: 'x'.repeat(3 * 2 ** 20) });
    const shown = await copy(path.join(here, 'f'), 'data:');
    expect(shown.stderr()).toMatch(/░{20} 0 % {2}0 of 3\.0Mi, 0 of 1 files/);
    const quiet = await copy(path.join(here, 'f'), 'data:again', { context: aContext() });
    expect(quiet.stderr() + quiet.stdout()).toBe('');
  });

  test('asks for exactly one place on a volume, and none outside of it', () => {
    expect(() => directionOf({ source: 'a', target: './b:c' })).toThrow(/none of them.*VOLUME:PATH/);
    expect(() => directionOf({ source: 'a:b', target: 'c:d' })).toThrow(/both/);
    expect(directionOf({ source: 'a:b', target: '/tmp/x:y' })).toEqual({
      from: { volume: 'a', path: 'b' },
      to: '/tmp/x:y',
    });
    expect(() => parsePlace('data:../x', 'SOURCE')).toThrow(/SOURCE: .*leads out of the volume/);
    expect(parsePlace('data://x/', 'SOURCE')).toEqual({ volume: 'data', path: 'x/' });
  });
});

describe('xos ls', () => {
  test('lists a folder, without what a terminal would obey', async () => {
    fill(volume, { 'sub/one': '', 'sub/t\u001b[2Jwo': '' });
    const context = aContext();
    await listPlace(context, { ...given, place: 'data:sub', long: false }, anApi());
    expect(context.stdout()).toContain('one\n');
    expect(context.stdout()).not.toContain('\u001b');
    await expect(listPlace(context, { ...given, place: 'data:nothing', long: true }, anApi())).rejects.toThrow(
      /data:nothing can not be listed: .*No such file/,
    );
  });
});
