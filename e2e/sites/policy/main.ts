/** Enforces NetworkPolicy on the nodes of one site: `node policy/main.ts INSTANCE SITE`. Started by the site itself. */
import { join } from 'node:path';

import { openInstance } from '../lifecycle.ts';
import { PolicyAgent } from './agent.ts';

const [name = '', letter = ''] = process.argv.slice(2);
const site = (await openInstance(name)).site(letter);
const stop = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());

const nodes = site.nodes.map(({ plan, machine }) => ({
  name: plan.name,
  podCidr: plan.podCidr,
  resultsDir: join(machine.root, 'var/lib/cni/results'),
  boot: () => (machine.isUp() ? String(machine.anchorPid()) : undefined),
  loadRules: async (rules: string) => machine.loadRules(rules),
}));
await new PolicyAgent(site.client(), nodes).run(stop.signal);
