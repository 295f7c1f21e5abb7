/** The events of a Volume: one constructor each. */
import { type Volume, volumes } from '#crds/volume.ts';
import type { EventDraft } from '#runtime/contracts.ts';
import { referenceTo } from '#runtime/events.ts';
import type { Stored } from '#runtime/types.ts';

/** Its files are gone. */
export function erased(volume: Stored<Volume>): EventDraft {
  const note = 'Its files were erased, and the volume removed from the MRC.';
  return { object: referenceTo(volumes, volume), type: 'Normal', reason: 'Erased', action: 'Erase', note };
}

/** It goes, its files stay. */
export function retained(volume: Stored<Volume>, name: string): EventDraft {
  const note = `Its files stay at the MRC as ${name}: reclaimPolicy is Retain.`;
  return { object: referenceTo(volumes, volume), type: 'Normal', reason: 'Retained', action: 'Retain', note };
}
