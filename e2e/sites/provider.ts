import { TerminalError } from '#common/errors.ts';

import type { ControlGroup } from './cgroups.ts';
import { kindObstacle, kindProvider } from './kind-provider.ts';
import { Faults } from './faults.ts';
import type { Instance } from './instance.ts';
import { down, openInstance, statusOf, up, type UpOptions } from './lifecycle.ts';

/** The clusters of a name. */
export interface ProvidedSites {
  /** kubeconfig with a context per site, named like the site. */
  readonly kubeconfig: string;
  /** Harm on purpose; absent where the provider can't do it. */
  readonly faults?: Faults;
  /** Where memory can be measured; absent when the processes aren't this provider's to see. */
  readonly group?: ControlGroup;
  /** For `-o json`. */
  readonly status: unknown;
  readonly sites: readonly ProvidedSite[];
}

/** One cluster, as suites see it whatever made it. */
export interface ProvidedSite {
  readonly name: string;
  readonly kubeconfig: string;
  readonly nodes: readonly string[];
  /** Where other sites reach this site's gateway. */
  readonly gatewayAddress: string;
  /** Makes the images of an OCI archive available on every node. */
  loadImages(archive: string): Promise<void>;
}

/** A way to have Kubernetes clusters. Suites are written once, against this. */
export interface SitesProvider {
  /** Brings clusters up, or what of them has ended, and waits until they are ready. */
  up(options: UpOptions): Promise<ProvidedSites & { readonly isWarm: boolean }>;
  /** Finds clusters that were brought up and got ready before. @throws when there are none of that name. */
  open(name: string): Promise<ProvidedSites>;
  /** @returns whether there was anything. */
  down(name: string, report: (line: string) => void): Promise<boolean>;
}

/** Clusters of plain processes on this machine. */
export const localProvider: SitesProvider = {
  up: async (options) => {
    const { instance, isWarm } = await up(options);
    return { ...provide(instance), isWarm };
  },
  open: async (name) => {
    const instance = await openInstance(name);
    if (instance.record.readyAt === undefined) throw new TerminalError(`${name} isn't ready: make sites NAME=${name}`);
    return provide(instance);
  },
  down,
};

function provide(instance: Instance): ProvidedSites {
  return {
    kubeconfig: instance.kubeconfigPath,
    group: instance.group,
    faults: new Faults(instance),
    status: statusOf(instance),
    sites: instance.sites.map((site) => ({
      name: site.plan.name,
      kubeconfig: site.kubeconfigPath,
      nodes: site.nodes.map((node) => node.plan.name),
      gatewayAddress: site.plan.nodes[0]?.address ?? '',
      loadImages: async (archive) => {
        await Promise.all(
          site.nodes.filter((node) => node.machine.isUp()).map(async (node) => node.importImages(archive)),
        );
      },
    })),
  };
}

/**
 * The provider of a name.
 * @returns undefined when it can't run here; the reason is printed, and what asked for it is to be skipped.
 * @throws {TerminalError} for an unknown name.
 */
export async function chooseProvider(name: string): Promise<SitesProvider | undefined> {
  if (name === 'local') return localProvider;
  if (name !== 'kind') throw new TerminalError(`PROVIDER: must be local or kind, not ${name}`);
  const obstacle = await kindObstacle();
  if (obstacle === undefined) return kindProvider;
  console.log(`Skipped: kind can't run here: ${obstacle}`);
  return undefined;
}
