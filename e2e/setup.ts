/**
 * Brings the shared sites up before the first end-to-end suite. `XTREEMOS_E2E_SITES` and `XTREEMOS_E2E_NODES` say how
 * many (1 and 2), `XTREEMOS_E2E_NAME` under which name, `PROVIDER` how. Sites of that name that run already are used, and
 * left alone by the teardown: they are somebody's.
 */
import { chooseProvider } from './sites/provider.ts';
import { providerName, sharedName } from './sites/harness.ts';

/** Called once by jest. */
export default async function setup(): Promise<void> {
  const provider = await chooseProvider(providerName());
  if (provider === undefined) return;
  const isFound = await provider.open(sharedName()).then(
    () => true,
    () => false,
  );
  if (isFound) process.env.XTREEMOS_E2E_KEEP = '1';
  const started = performance.now();
  const sites = Number(process.env.XTREEMOS_E2E_SITES ?? '1');
  const nodes = Number(process.env.XTREEMOS_E2E_NODES ?? '2');
  await provider.up({ name: sharedName(), sites, nodes, report: (line) => process.stderr.write(`${line}\n`) });
  process.stderr.write(`Sites for the suites were ready after ${Math.round((performance.now() - started) / 1000)} s\n`);
}
