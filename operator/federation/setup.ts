import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { volumes as volumeKind } from '#crds/volume.ts';
import type { Gateway } from '#operator/gateway/setup.ts';
import type { Identities } from '#operator/identity/setup.ts';
import type { StateRecords } from '#operator/identity/state-record.ts';
import type { Manager } from '#runtime/contracts.ts';
import { Follower } from './follower.ts';
import { Heard } from './heard.ts';
import { followMethod } from './home.ts';
import { remindMethod } from './reminders.ts';
import { SeenStates } from './seen-states.ts';

/** What virtual organizations over sites take from the process. */
export interface FederationSetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly identities: Identities;
  readonly records: StateRecords;
  /** Namespace of the operator. */
  readonly namespace: string;
  readonly gateway: Pick<Gateway, 'channels' | 'services'>;
}

/** Tells other sites of virtual organizations that are at home here, and follows those of others that the owner accepts. */
export function addFederation(manager: Manager, setup: FederationSetup): void {
  const { clock, log, identities, records, gateway, namespace } = setup;
  const { organizations, memberships, slices, sites, localSite, issuer } = identities;
  const volumes = manager.informer(volumeKind);
  gateway.services.add([
    followMethod({ organizations, memberships, slices, volumes, records, localSite }),
    remindMethod({ organizations, records, issuer, localSite }),
  ]);
  const caches = [organizations, memberships, slices, volumes, sites];
  const { client } = manager;
  manager.addRunnable(
    new Follower({
      ...{ organizations, memberships, volumes, sites, client, clock, log, localSite },
      channels: gateway.channels,
      heard: new Heard(client, clock, namespace),
      seen: new SeenStates(client, namespace),
      synced: async (signal) => {
        await Promise.all(caches.map(async (each) => each.synced(signal)));
      },
    }),
  );
}
