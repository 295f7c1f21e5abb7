import type { SystemWrite } from '../core/system-attribute.ts';
import { systemCaller } from '../engine.ts';
import type { Mrc } from './context.ts';

/** Carries out what a written system attribute asks for beyond its own transaction. */
export async function finishSystemWrite(mrc: Mrc, write: SystemWrite | undefined): Promise<void> {
  if (write === undefined) return;
  switch (write.kind) {
    case 'createSnapshot':
      await mrc.maintenance.createSnapshot(write.volume, write.ino, write.name, write);
      return;
    case 'deleteSnapshot':
      await mrc.maintenance.deleteSnapshot(write.volume, write.name);
      return;
    case 'setReplicaPolicy':
      await mrc.coordinator.setPolicy(systemCaller, { volume: write.volume, ino: write.ino }, write.policy);
  }
}
