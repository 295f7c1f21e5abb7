import type { Site } from '#crds/site.ts';
import { siteDefinition } from '#crds/site.ts';
import type { InformerEvent, InformerHandler } from '#runtime/contracts.ts';
import type { ObjectKey, Stored } from '#runtime/types.ts';
import type { SiteCache } from '../directory.ts';

/** Site objects of peers without an API server. */
export class SiteBook implements SiteCache {
  private readonly sites = new Map<string, Stored<Site>>();
  private readonly handlers = new Set<InformerHandler<Site>>();
  private version = 0;

  get({ name }: ObjectKey): Stored<Site> | undefined {
    return this.sites.get(name);
  }

  list(): Stored<Site>[] {
    return [...this.sites.values()];
  }

  onEvent(handler: InformerHandler<Site>): () => void {
    this.handlers.add(handler);
    return () => void this.handlers.delete(handler);
  }

  /** Writes a peer; undefined deletes it. */
  set(name: string, peer: object | undefined): void {
    const old = this.sites.get(name);
    const event = this.write(name, peer, old);
    if (event !== undefined) for (const handler of this.handlers) handler(event);
  }

  private write(
    name: string,
    peer: object | undefined,
    old: Stored<Site> | undefined,
  ): InformerEvent<Site> | undefined {
    if (peer === undefined) {
      this.sites.delete(name);
      return old === undefined ? undefined : { type: 'deleted', object: old, missed: false };
    }
    const generation = ++this.version;
    const metadata = {
      name,
      generation,
      uid: name,
      resourceVersion: String(generation),
      creationTimestamp: '2026-01-01T00:00:00Z',
    };
    const object = { metadata, spec: siteDefinition.spec.parse({ type: 'Peer', peer }) };
    this.sites.set(name, object);
    return old === undefined ? { type: 'added', object, initial: false } : { type: 'updated', object, old };
  }
}
