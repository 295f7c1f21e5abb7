import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Registry } from '#common/metrics.ts';
import { fileSystems } from '#crds/file-system.ts';
import { volumes } from '#crds/volume.ts';
import { ChildWriter } from '#operator/storage/child-writer.ts';
import type { Installations } from '#operator/storage/installations.ts';
import { fileSystemLabel } from '#operator/storage/names.ts';
import { pods, secrets, statefulSets } from '#runtime/builtin.ts';
import type { Manager } from '#runtime/contracts.ts';
import { Finalizers } from '#runtime/finalizers.ts';
import { mapped, owned } from '#runtime/sources.ts';
import type { KubeObject, ObjectKey } from '#runtime/types.ts';
import { byFileSystem, FileSystemReconciler } from './controller.ts';
import { FileSystemMetrics } from './metrics.ts';

/** What the controller of FileSystems takes from the process that it runs in. */
export interface FileSystemSetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
  readonly installations: Installations;
  readonly namespace: string;
  readonly image: string;
  readonly issuer: string;
}

/** Adds the controller of FileSystems to a manager. */
export function addFileSystemController(manager: Manager, setup: FileSystemSetup): void {
  const { namespace } = setup;
  const fileSystemInformer = manager.informer(fileSystems);
  const volumeInformer = manager.informer(volumes);
  const own = { namespace, labelSelector: fileSystemLabel };
  const setInformer = manager.informer(statefulSets, own);
  const podInformer = manager.informer(pods, own);
  const secretInformer = manager.informer(secrets, own);
  volumeInformer.addIndex(byFileSystem, ({ spec }) =>
    spec.fileSystem === undefined ? [] : [`${spec.fileSystem.namespace}/${spec.fileSystem.name}`],
  );
  const labelled = ({ metadata }: KubeObject): readonly ObjectKey[] => {
    const name = metadata.labels?.[fileSystemLabel];
    return name === undefined ? [] : [{ namespace, name }];
  };
  manager.addController({
    name: 'filesystem',
    primary: fileSystemInformer,
    changed: (object, old) =>
      object.metadata.generation !== old.metadata.generation ||
      object.metadata.deletionTimestamp !== old.metadata.deletionTimestamp ||
      object.metadata.finalizers?.length !== old.metadata.finalizers?.length,
    reconciler: new FileSystemReconciler({
      ...setup,
      metrics: new FileSystemMetrics(setup.registry),
      fileSystems: fileSystemInformer,
      volumes: volumeInformer,
      statefulSets: setInformer,
      pods: podInformer,
      secrets: secretInformer,
      client: manager.client,
      events: manager.events,
      writer: new ChildWriter(manager.client, setup.clock),
      finalizers: new Finalizers(manager.client.of(fileSystems), 'xtreemos.io/file-system'),
    }),
    sources: [
      owned(fileSystems, setInformer),
      mapped(podInformer, labelled),
      mapped(secretInformer, labelled),
      mapped(volumeInformer, ({ spec }) => (spec.fileSystem === undefined ? [] : [spec.fileSystem])),
    ],
  });
}
