/**
 * `make bench-vo`: what virtual organizations cost. Each part measures some of the figures and returns them; the last line has them all. A part
 * joins by its function in `parts`. What it took to be measured is on the lines before.
 *
 * usage: node bench/vo.ts [--only members,suspension,credentials] [--members 10000] [--site NAME]
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { InvalidInputError } from '#common/errors.ts';
import type { Product } from '../e2e/suites/product.ts';
import { withProduct } from './product.ts';
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

type Part = (product: Product) => Promise<Record<string, unknown>>;

/** Parts that need a site with the product and a virtual organization, by name. */
const onSite: Readonly<Record<string, Part>> = {
  suspension: measureSuspension,
  members: async (product) => measureMembers(product, Number(values.members)),
};
const alone: Readonly<Record<string, () => Promise<Record<string, unknown>>>> = {
  credentials: async () => ({ ...(await measureCredentials()) }),
};

const known = [...Object.keys(onSite), ...Object.keys(alone)];
const chosen = values.only?.split(',') ?? known;
for (const name of chosen) {
  if (!known.includes(name)) {
    throw new InvalidInputError('--only', `${name} is no part: choose from ${known.join(', ')}`);
  }
}
let figure: Record<string, unknown> = {};
const measure = async (name: string, part: () => Promise<Record<string, unknown>>): Promise<void> => {
  if (!chosen.includes(name)) return;
  const load = loadavg()[0]?.toFixed(1) ?? '?';
  console.log(`${name}: measuring at load ${load}`);
  figure = { ...figure, ...(await part()), [`${name}_load`]: Number(load) };
};
if (Object.keys(onSite).some((name) => chosen.includes(name))) {
  await withProduct(values.site, ['metrics.auth=false'], async (product) => {
    await product.formOrganization();
    for (const [name, part] of Object.entries(onSite)) await measure(name, async () => part(product));
  });
}
for (const [name, part] of Object.entries(alone)) await measure(name, part);
console.log(`figure: ${JSON.stringify(figure)}`);
