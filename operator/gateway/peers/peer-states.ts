/** What was last heard of each peer; lost with the process, and heard anew at the next greeting. */

/** How it stands with a peer. */
export interface PeerView {
  /**
   * - `Connected`: it answers.
   * - `Unreachable`: nothing comes back.
   * - `Refused`: it answers that it doesn't want to, or doesn't speak our protocol.
   */
  readonly state: 'Connected' | 'Unreachable' | 'Refused';
  /** Why, for a person; empty when connected. */
  readonly message: string;
  /** When it last answered, milliseconds since the Unix epoch; undefined: never. */
  readonly seenMs: number | undefined;
  readonly version: string;
  readonly nodes: number;
  readonly nodesReady: number;
}

/** Keeps a {@link PeerView} per peer, and tells who wants to know when one changed. */
export class PeerStates {
  private readonly views = new Map<string, PeerView>();
  private readonly listeners = new Set<(site: string) => void>();

  get(site: string): PeerView | undefined {
    return this.views.get(site);
  }

  /** Listeners hear of it unless only the time differs. */
  set(site: string, view: PeerView): void {
    const known = this.views.get(site);
    this.views.set(site, view);
    const isSame =
      known !== undefined && JSON.stringify({ ...known, seenMs: 0 }) === JSON.stringify({ ...view, seenMs: 0 });
    if (!isSame) for (const listener of this.listeners) listener(site);
  }

  /** Forgets every peer but these. */
  keepOnly(sites: readonly string[]): void {
    for (const site of this.views.keys()) if (!sites.includes(site)) this.views.delete(site);
  }

  /** @returns a function that ends it. */
  onChange(listener: (site: string) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }
}
