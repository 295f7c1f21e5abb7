/**
 * Brings the shared sites up before the first end-to-end suite. `XTREEMOS_E2E_SITES` and `XTREEMOS_E2E_NODES` say how
 * many (1 and 2), `XTREEMOS_E2E_NAME` under which name, `PROVIDER` how. Running sites of a name that was given are
 * somebody's: they are used, and left alone by the teardown. Sites of the name that nobody gave are of a run that was
 * cut off, with what its suites had installed: they are removed first.
 */
import { chooseProvider } from './sites/provider.ts';
import { providerName, sharedName } from './sites/harness.ts';

/** Called once by jest. */
export default async function setup(): Promise<void> {
  const provider = await chooseProvider(providerName());
  if (provider === undefined) return;
  const report = (line: string): boolean => process.stderr.write(`${line}\n`);
  if (process.env.XTREEMOS_E2E_NAME === undefined) {
    if (await provider.down(sharedName(), report)) report('Removed the sites of a run that was cut off');
  } else if (await isReady(provider.open(sharedName()))) {
    process.env.XTREEMOS_E2E_KEEP = '1';
  }
  const started = performance.now();
  const sites = Number(process.env.XTREEMOS_E2E_SITES ?? '1');
  const nodes = Number(process.env.XTREEMOS_E2E_NODES ?? '2');
  await provider.up({ name: sharedName(), sites, nodes, report });
  report(`Sites for the suites were ready after ${Math.round((performance.now() - started) / 1000)} s`);
}

async function isReady(opened: Promise<unknown>): Promise<boolean> {
  return opened.then(
    () => true,
    () => false,
  );
}
