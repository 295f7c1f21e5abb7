/**
 * `make bench-vo`: what virtual organizations cost. Each part measures some of the figures and returns them; the last line has them all. A part
 * joins by its function in `parts`. What it took to be measured is on the lines before.
 *
 * usage: node bench/vo.ts [--only members,suspension,credentials] [--members 10000] [--site NAME]
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { InvalidInputError } from '#common/errors.ts';
import { measureCredentials } from './vo-credentials.ts';
import { measureMembers } from './vo-members.ts';
import { measureSuspension } from './vo-suspension.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    members: { type: 'string', default: '10000' },
    site: { type: 'string', default: 'bench-vo' },
  },
});

/** Each part by name. */
const parts: Readonly<Record<string, () => Promise<Record<string, unknown>>>> = {
  members: async () => measureMembers(Number(values.members)),
  suspension: async () => measureSuspension(values.site),
  credentials: async () => ({ ...(await measureCredentials()) }),
};

const chosen = values.only?.split(',') ?? Object.keys(parts);
let figure: Record<string, unknown> = {};
for (const name of chosen) {
  const part = parts[name];
  if (part === undefined) {
    throw new InvalidInputError('--only', `${name} is no part: choose from ${Object.keys(parts).join(', ')}`);
  }
  console.log(`${name}: measuring at load ${loadavg()[0]?.toFixed(1) ?? '?'}`);
  figure = { ...figure, ...(await part()) };
}
console.log(`figure: ${JSON.stringify(figure)}`);
