/** The selector: a node's member of the resource-selection overlay, as a plain process (docs/selector.md). */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { credentials, ServerCredentials } from '@grpc/grpc-js';
import { systemClock } from '#common/clock.ts';
import { describeError, InvalidInputError } from '#common/errors.ts';
import { createLogger } from '#common/logger.ts';
import { helpText, parseOptions } from '#common/options.ts';
import { systemRandom } from '#common/random.ts';
import { machineSource } from './ads/live.ts';
import { SelectorAgent } from './agent.ts';
import { MemoryClaimStore } from './ledger/store.ts';
import { MonitorServer } from './monitor/pages.ts';
import { readAttributes, readResources, selectorOptions } from './options.ts';
import { SiteSigner, TrustSet } from './overlay/trust.ts';

async function run(argv: readonly string[]): Promise<void> {
  const { values } = parseOptions(selectorOptions, argv, process.env);
  const logger = createLogger({ name: 'selector', level: values.logLevel });
  const ca = readFileSync(values.tlsCa);
  const certificate = readFileSync(values.tlsCertificate);
  const key = readFileSync(values.tlsKey);
  const trusted = readTrust(values.siteTrust);
  if (!trusted.some(([site]) => site === values.site)) {
    throw new InvalidInputError(
      '--site-trust',
      `${values.siteTrust} has no ${values.site}.pem: peers would drop this node`,
    );
  }
  const agent = new SelectorAgent(
    {
      clock: systemClock,
      random: systemRandom(),
      logger,
      signer: new SiteSigner(values.site, createPrivateKey(readFileSync(values.siteKey))),
      verifier: new TrustSet(trusted),
      store: new MemoryClaimStore(),
      liveSource: machineSource,
      clientCredentials: credentials.createSsl(ca, key, certificate),
      serverCredentials: ServerCredentials.createSsl(ca, [{ private_key: key, cert_chain: certificate }], true),
    },
    {
      site: values.site,
      node: values.node,
      listen: values.listen,
      advertise: values.advertise,
      attributes: readAttributes(values.attributes),
      allocatable: readResources(values.allocatable),
      isOffering: values.offers,
      virtualOrganizations: values.virtualOrganizations,
      overlay: { periodMs: values.gossipPeriodMs },
    },
  );
  const monitor = new MonitorServer(() => agent.status());
  const port = await agent.start(values.peers);
  const at = values.monitor.lastIndexOf(':');
  const monitorPort = await monitor.listen(values.monitor.slice(0, at), Number(values.monitor.slice(at + 1)));
  logger.info('Listening', { port, monitorPort });
  const stop = (): void => {
    monitor.stop();
    agent.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error('Stopping failed', { err: error });
        process.exit(1);
      },
    );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

function readTrust(folder: string): [string, KeyObject][] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.pem'))
    .map((name) => [name.slice(0, -4), createPublicKey(readFileSync(path.join(folder, name)))]);
}

const argv = process.argv.slice(2);
if (argv.includes('--help')) {
  const about = 'Finds nodes by their attributes, together with its peers, and keeps the account of its own node.';
  process.stdout.write(helpText('selector [options]', about, selectorOptions));
} else {
  run(argv).catch((error: unknown) => {
    process.stderr.write(`selector: ${describeError(error)}\n`);
    process.exit(error instanceof InvalidInputError ? 2 : 1);
  });
}
