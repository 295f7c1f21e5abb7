import type { Site } from '#crds/site.ts';
import type { InformerEvent } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import { type Actor, unknownActor, whoChanged } from '../decisions.ts';

/** Who changed last what the local Site says of each virtual organization, as far as its object tells. Kept in memory only. */
export class SiteWord {
  private readonly changes = new Map<string, Actor>();
  private before: Actor = { who: unknownActor, note: 'There is no local Site.' };

  /** Notes a change of the local Site. */
  note(event: InformerEvent<Site>): void {
    const site = event.object;
    if (event.type === 'deleted') {
      this.forget({ who: unknownActor, note: 'The local Site was deleted.' });
    } else if (event.type === 'added') {
      this.forget(whoChanged(site, site.status?.observedGeneration));
    } else {
      const [old, now] = [entriesOf(event.old), entriesOf(site)];
      const actor = whoChanged(site, event.old.metadata.generation);
      for (const name of new Set([...old.keys(), ...now.keys()]))
        if (old.get(name) !== now.get(name)) this.changes.set(name, actor);
    }
  }

  /** Who changed last what it says of a virtual organization. */
  changedBy(organization: string): Actor {
    return this.changes.get(organization) ?? this.before;
  }

  private forget(before: Actor): void {
    this.changes.clear();
    this.before = before;
  }
}

/** What is said of each virtual organization. */
function entriesOf({ spec }: Stored<Site>): Map<string, string> {
  const entries = spec.type === 'Local' ? spec.local.acceptedVirtualOrganizations : [];
  return new Map(entries.map((entry) => [entry.name, JSON.stringify(entry)]));
}
