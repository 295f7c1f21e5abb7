/** One thread of load for bench/xtreemfs.ts: repeats one kind of call on its own share of the files. */
import { closeSync, fsyncSync, openSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

/** What one thread is to do. */
export interface Share {
  readonly kind: 'create' | 'create4k' | 'stat' | 'read4k' | 'unlink' | 'randomRead' | 'randomWrite';
  readonly folder: string;
  readonly first: number;
  readonly count: number;
  /** Of the file that random calls go to. */
  readonly fileBytes: number;
}

const block = Buffer.alloc(4096, 7);
const share = workerData as Share;

function run({ kind, folder, first, count, fileBytes }: Share): void {
  const name = (index: number): string => `${folder}/f${index}`;
  if (kind === 'randomRead' || kind === 'randomWrite') {
    const file = openSync(`${folder}/big`, kind === 'randomRead' ? 'r' : 'r+');
    let state = first + 1;
    for (let index = 0; index < count; index++) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      const at = (state % Math.floor(fileBytes / 4096)) * 4096;
      if (kind === 'randomRead') readSync(file, block, 0, 4096, at);
      else writeSync(file, block, 0, 4096, at);
    }
    if (kind === 'randomWrite') fsyncSync(file);
    closeSync(file);
    return;
  }
  for (let index = first; index < first + count; index++) {
    switch (kind) {
      case 'create':
        closeSync(openSync(name(index), 'wx'));
        break;
      case 'create4k': {
        const file = openSync(name(index), 'wx');
        writeSync(file, block);
        closeSync(file);
        break;
      }
      case 'stat':
        statSync(name(index));
        break;
      case 'read4k': {
        const file = openSync(name(index), 'r');
        readSync(file, block, 0, 4096, 0);
        closeSync(file);
        break;
      }
      case 'unlink':
        rmSync(name(index));
    }
  }
}

parentPort?.once('message', () => {
  run(share);
  parentPort?.postMessage('done');
});
parentPort?.postMessage('ready');
