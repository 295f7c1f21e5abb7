/** Bundles each program that exists into one file under dist/ (`make bundle`). Native packages stay outside. */
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

/** Program → its entry. A program joins when its entry file is there. */
export const programs: Readonly<Record<string, string>> = {
  operator: 'operator/main.ts',
  'network-probe': 'operator/network-probe/main.ts',
  selector: 'selector/main.ts',
  nodeagent: 'nodeagent/main.ts',
  xtreemfs: 'xtreemfs/main.ts',
  xos: 'cli/main.ts',
};

const { values } = parseArgs({ options: { out: { type: 'string', default: 'dist' } } });
const entries = Object.entries(programs).filter(([, entry]) => existsSync(entry));
await build({
  entryPoints: Object.fromEntries(entries),
  outdir: values.out,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  // etcd3 reads its protocol descriptions from beside its own files.
  external: ['lmdb', 'etcd3'],
  legalComments: 'external',
  logLevel: 'warning',
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
});
console.log(`Bundled ${entries.map(([name]) => name).join(', ')} into ${values.out}/`);
