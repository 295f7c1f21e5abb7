/** Renders the chart from its source into charts/xtreemos; files that are no longer made are removed. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { format } from 'prettier';
import YAML from 'yaml';
import { kinds } from '#crds/kinds.ts';
import { chartFiles } from './files.ts';

const root = path.resolve(import.meta.dirname, '../..');
const target = path.join(root, 'charts/xtreemos');
const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string };
const samples = kinds.map((kind): unknown =>
  YAML.parse(readFileSync(path.join(root, `crds/samples/${kind.singular}-minimal.yaml`), 'utf8')),
);

const files = chartFiles(version, samples);
mkdirSync(path.join(target, 'templates'), { recursive: true });
for (const name of readdirSync(path.join(target, 'templates'))) {
  if (!files.has(`templates/${name}`)) rmSync(path.join(target, 'templates', name));
}
for (const [name, content] of files) {
  const file = path.join(target, name);
  mkdirSync(path.dirname(file), { recursive: true });
  const parser = name.endsWith('.json') ? 'json' : name.startsWith('templates/') ? undefined : 'yaml';
  const text = parser === undefined ? content : await format(content, { parser, printWidth: 120, singleQuote: true });
  if (!existsSync(file) || readFileSync(file, 'utf8') !== text) writeFileSync(file, text);
}
process.stdout.write(`Rendered ${files.size} files of the chart ${version}\n`);
