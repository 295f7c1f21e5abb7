/** `make chart`: lints the rendered chart with the pinned Helm and packs it into dist/. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { ensureTools } from '#sites/tools.ts';

const root = path.resolve(import.meta.dirname, '..');
const chart = path.join(root, 'charts/xtreemos');
const dist = path.join(root, 'dist');
const helm = (await ensureTools(['helm'])).path('helm');
mkdirSync(dist, { recursive: true });
execFileSync(helm, ['lint', '--strict', chart], { stdio: 'inherit' });
execFileSync(helm, ['package', chart, '--destination', dist], { stdio: 'inherit' });
