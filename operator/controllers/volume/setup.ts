import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { fileSystems } from '#crds/file-system.ts';
import { siteReady, sites } from '#crds/site.ts';
import { virtualOrganizations } from '#crds/virtual-organization.ts';
import { voMemberships } from '#crds/vo-membership.ts';
import { type Volume, volumeReady, volumes, type VolumeStatus } from '#crds/volume.ts';
import type { Installations } from '#operator/storage/installations.ts';
import { persistentVolumeClaims, persistentVolumes } from '#runtime/builtin.ts';
import { findCondition, isConditionTrue } from '#runtime/conditions.ts';
import type { Manager } from '#runtime/contracts.ts';
import { Finalizers } from '#runtime/finalizers.ts';
import { mapped } from '#runtime/sources.ts';
import { keyOf, type KubeObject, type ObjectKey, type Stored } from '#runtime/types.ts';
import { byVolumeUid, ClaimWriter } from './claim-writer.ts';
import { volumeUidLabel } from './claims.ts';
import { VolumeReconciler } from './controller.ts';
import { VolumeCopies } from './copies.ts';

/** What the controller of Volumes takes from the process that it runs in. */
export interface VolumeSetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly installations: Installations;
  /** Ends with the process. */
  readonly life: AbortSignal;
}

const byUid = 'uid';

/** Adds the controller of Volumes to a manager. */
export function addVolumeController(manager: Manager, setup: VolumeSetup): void {
  const volumeInformer = manager.informer(volumes);
  const fileSystemInformer = manager.informer(fileSystems);
  const claimInformer = manager.informer(persistentVolumeClaims, { labelSelector: volumeUidLabel });
  const persistentVolumeInformer = manager.informer(persistentVolumes, { labelSelector: volumeUidLabel });
  const uidOf = ({ metadata }: KubeObject): string[] => {
    const uid = metadata.labels?.[volumeUidLabel];
    return uid === undefined ? [] : [uid];
  };
  const siteInformer = manager.informer(sites);
  claimInformer.addIndex(byVolumeUid, uidOf);
  persistentVolumeInformer.addIndex(byVolumeUid, uidOf);
  volumeInformer.addIndex(byUid, ({ metadata }) => [metadata.uid]);
  const volumeOf = (object: KubeObject): ObjectKey[] =>
    uidOf(object).flatMap((uid) => volumeInformer.byIndex(byUid, uid).map((volume) => keyOf(volume)));
  const isConnected = (site: string): boolean =>
    isConditionTrue(siteInformer.get({ name: site })?.status?.conditions, siteReady.type);
  const isWaiting = (volume: Stored<Volume>): boolean =>
    !isConditionTrue(volume.status?.conditions, volumeReady.type) || volume.metadata.deletionTimestamp !== undefined;
  manager.addController({
    name: 'volume',
    primary: volumeInformer,
    changed: (object, old) =>
      object.metadata.generation !== old.metadata.generation ||
      object.metadata.deletionTimestamp !== old.metadata.deletionTimestamp ||
      object.metadata.finalizers?.length !== old.metadata.finalizers?.length,
    reconciler: new VolumeReconciler({
      ...setup,
      volumes: volumeInformer,
      fileSystems: fileSystemInformer,
      organizations: manager.informer(virtualOrganizations),
      members: manager.informer(voMemberships),
      claims: new ClaimWriter({
        client: manager.client,
        claims: claimInformer,
        persistentVolumes: persistentVolumeInformer,
      }),
      isConnected,
      client: manager.client,
      copies: new VolumeCopies(setup),
      finalizers: new Finalizers(manager.client.of(volumes), 'xtreemos.io/volume'),
      events: manager.events,
    }),
    concurrency: 4,
    sources: [
      mapped(claimInformer, volumeOf),
      mapped(persistentVolumeInformer, volumeOf),
      mapped(siteInformer, ({ metadata }) =>
        volumeInformer
          .list()
          .filter(({ spec }) => spec.remote?.site === metadata.name)
          .filter(({ status }) => isAway(status) === isConnected(metadata.name))
          .map((volume) => keyOf(volume)),
      ),
      // What is served needs no call; what waits does not have to ask.
      mapped(fileSystemInformer, () =>
        volumeInformer
          .list()
          .filter(isWaiting)
          .map((volume) => keyOf(volume)),
      ),
    ],
  });
}

/** Whether a Volume was told to be out of reach. */
function isAway(status: VolumeStatus | undefined): boolean {
  return findCondition(status?.conditions, volumeReady.type)?.reason === volumeReady.reasons.SiteAway;
}
