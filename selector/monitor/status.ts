import type { Clock } from '#common/clock.ts';
import type { Ledger } from '#selector/ledger/ledger.ts';
import type { Resources } from '#proto/selector/resources.ts';
import type { Attributes } from '#proto/selector/attributes.ts';
import type { Descriptor } from '#selector/overlay/descriptor.ts';
import type { DropCounts } from '#selector/overlay/membership.ts';
import type { OverlayNode } from '#selector/overlay/node.ts';

/** One peer on the status page. */
export interface PeerStatus {
  readonly id: string;
  readonly address: string;
  /** Level and dimension of the cell N(l,k) that it stands for; `id` for a split inside one cell. */
  readonly cell: string;
  readonly slot: number;
  /** Time since it last showed itself, as its stamp has it. */
  readonly ageMs: number;
  readonly isSuspect: boolean;
  readonly attributes: Attributes;
}

/** What the monitor pages show, as JSON. */
export interface StatusPage {
  readonly node: { id: string; address: string; incarnation: number; attributes: Attributes; cells: number[] };
  readonly overlay: {
    nodeCount: number;
    links: PeerStatus[];
    randomView: { id: string; address: string; ageMs: number }[];
    borders: { id: string; mintedAt: number; isSettling: boolean; axes: { attribute: string; cuts: number[] }[] };
    suspects: number;
    buried: number;
    lostAddresses: readonly string[];
    dropped: DropCounts;
    queriesInFlight: number;
  };
  readonly ledger: {
    free: Resources;
    claims: { id: string; owner: string; stage: string; demand: Resources; startMs: number; endMs: number | null }[];
  };
  readonly live: Readonly<Record<string, number>>;
}

/** Gathers the status page. */
export function describeStatus(
  node: OverlayNode,
  ledger: Ledger,
  live: Readonly<Record<string, number>>,
  clock: Clock,
): StatusPage {
  const { current } = node.membership;
  const { profile } = node.self;
  const now = clock.now();
  const links = current.filledSlots.flatMap((slot) =>
    current.links(slot).map((link) => describePeer(link, slot, current.borders.axes.length, now, node)),
  );
  const { borders } = current;
  return {
    node: {
      id: profile.id,
      address: profile.address,
      incarnation: profile.incarnation,
      attributes: profile.attributes,
      cells: [...current.self.codes],
    },
    overlay: {
      nodeCount: node.nodeCount,
      links,
      randomView: node.membership.view.entries.map((entry) => ({
        id: entry.profile.id,
        address: entry.profile.address,
        ageMs: Math.max(0, now - entry.stamp),
      })),
      borders: {
        id: borders.id,
        mintedAt: borders.mintedAt,
        isSettling: node.keeper.isWarming,
        axes: borders.axes.map(({ attribute, cuts }) => ({ attribute, cuts: [...cuts] })),
      },
      suspects: node.detector.suspectCount,
      buried: node.membership.buriedCount,
      lostAddresses: node.membership.lostAddresses,
      dropped: node.membership.dropped,
      queriesInFlight: node.queriesInFlight,
    },
    ledger: {
      free: ledger.free(),
      claims: ledger.claims().map(({ claim, stage }) => ({
        ...{ id: claim.id, owner: claim.owner, stage, demand: claim.demand, startMs: claim.span.startMs },
        endMs: claim.span.endMs === Infinity ? null : claim.span.endMs,
      })),
    },
    live,
  };
}

function describePeer(link: Descriptor, slot: number, axisCount: number, now: number, node: OverlayNode): PeerStatus {
  const { profile } = link;
  return {
    id: profile.id,
    address: profile.address,
    cell: cellName(slot, axisCount),
    slot,
    ageMs: Math.max(0, now - link.stamp),
    isSuspect: node.isSuspect(profile.id),
    attributes: profile.attributes,
  };
}

/** `N(5,0)` is the far half along the first axis of the whole space, as RSS numbers levels; `id+3` lies inside one cell. */
function cellName(slot: number, axisCount: number): string {
  const attributeBits = axisCount * 5;
  if (slot >= attributeBits) return `id+${slot - attributeBits}`;
  return `N(${5 - Math.floor(slot / axisCount)},${slot % axisCount})`;
}
