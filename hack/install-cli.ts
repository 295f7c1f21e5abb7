/** Installs the bundle of `xos`, its kubectl plugin and that plugin's completion into PREFIX/bin (`make install-cli`). */
import { chmodSync, copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { prefix: { type: 'string', default: '' } } });
const folder = path.join(path.resolve(values.prefix === '' ? path.join(homedir(), '.local') : values.prefix), 'bin');
const program = path.join(folder, 'xos');
mkdirSync(folder, { recursive: true });
copyFileSync(path.resolve(import.meta.dirname, '../dist/xos.mjs'), program);
chmodSync(program, 0o755);
const plugin = path.join(folder, 'kubectl-xos');
rmSync(plugin, { force: true });
symlinkSync('xos', plugin);
const completion = path.join(folder, 'kubectl_complete-xos');
writeFileSync(completion, '#!/bin/sh\nexec kubectl-xos __complete -- "$@"\n');
chmodSync(completion, 0o755);
console.log(`Installed ${program}, and kubectl xos beside it. It needs Node.js 24 as "node" on the PATH.`);
if (!(process.env.PATH ?? '').split(path.delimiter).includes(folder)) console.log(`Put ${folder} on your PATH.`);
