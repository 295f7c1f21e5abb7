import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll } from '@jest/globals';
import { LmdbDirStore } from './lmdb-store.ts';
import { MemoryDirStore } from './testing/memory-store.ts';
import { describeStore } from './testing/store-compliance.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'dir-store-'));
afterAll(() => rmSync(folder, { recursive: true }));

describeStore('memory', async () => new MemoryDirStore(), false);
describeStore('LMDB', async () => await LmdbDirStore.open(folder), true);
