/** Which work that gives way is ended, so that work of higher priority has room. Pure. */
import { minus, type Resources, sumOf } from '#proto/selector/resources.ts';
import { fits } from './shape.ts';

/** Pods that are ended for one job at once, and tasks that room is made for at once. */
export const victimsMax = 64;
const slotsMax = 16;

/** Work on a node that gives way. */
export interface GivingWay {
  readonly node: string;
  readonly priority: number;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** What it takes, `cpu` in millicores, the rest in bytes or units. */
  readonly demand: Resources;
}

/** What is to have room. */
export interface RoomWanted {
  /** Of one task. */
  readonly demand: Resources;
  readonly tasks: number;
  /** So many must have room together, or nothing is ended. */
  readonly gangMinimum: number;
}

/** A node on which the tasks may run. */
export interface NodeRoom {
  readonly node: string;
  readonly free: Resources;
}

interface State<T> {
  free: Resources;
  /** The first is given up first. */
  left: T[];
}

/**
 * Chooses for each task the node where least is lost: work of the lowest priority, then the fewest pods; of equals what began last. What has
 * room anyway costs nobody anything.
 * @returns what is to be ended; empty when that would not make enough room.
 */
export function chooseVictims<T extends GivingWay>(
  { demand, tasks, gangMinimum }: RoomWanted,
  nodes: readonly NodeRoom[],
  running: readonly T[],
): T[] {
  const states = nodes.map(({ node, free }): State<T> => {
    const left = running.filter((one) => one.node === node);
    return { free, left: left.sort((a, b) => a.priority - b.priority || b.startedAt - a.startedAt) };
  });
  const wanted = gangMinimum > 1 ? gangMinimum : Math.min(tasks, slotsMax);
  const victims: T[] = [];
  let slots = 0;
  for (const state of states) {
    for (; slots < wanted && fits(demand, state.free) > 0; slots++) state.free = minus(state.free, demand);
  }
  while (slots < wanted) {
    let best: { state: State<T>; price: T[] } | undefined;
    for (const state of states) {
      const price = priceOf(state, demand);
      if (price !== undefined && (best === undefined || isLess(price, best.price))) best = { state, price };
    }
    if (best === undefined || victims.length + best.price.length > victimsMax) break;
    const { state, price } = best;
    victims.push(...price);
    state.left = state.left.filter((one) => !price.includes(one));
    state.free = minus(together(state.free, price), demand);
    slots++;
  }
  return slots < Math.max(1, gangMinimum) ? [] : victims;
}

/** The nodes with the room of what is leaving them. */
export function withRoom(
  nodes: readonly NodeRoom[],
  leaving: readonly Pick<GivingWay, 'node' | 'demand'>[],
): NodeRoom[] {
  const byNode = Map.groupBy(leaving, ({ node }) => node);
  return nodes.map(({ node, free }) => ({
    node,
    free: together(free, byNode.get(node) ?? []),
  }));
}

/** What must end on a node for one task; undefined when nothing is enough. */
function priceOf<T extends GivingWay>({ free, left }: State<T>, demand: Resources): T[] | undefined {
  const roomAfter = (ended: readonly T[]): number => fits(demand, together(free, ended));
  let price: T[] = [];
  for (const one of left) {
    price.push(one);
    if (roomAfter(price) > 0) break;
  }
  if (roomAfter(price) === 0) return undefined;
  // What was taken for the sake of one resource may not be needed once there is enough of another.
  for (const one of [...price].reverse()) {
    const without = price.filter((other) => other !== one);
    if (roomAfter(without) > 0) price = without;
  }
  return price;
}

function isLess(a: readonly GivingWay[], b: readonly GivingWay[]): boolean {
  const highest = (price: readonly GivingWay[]): number => Math.max(...price.map(({ priority }) => priority));
  return highest(a) < highest(b) || (highest(a) === highest(b) && a.length < b.length);
}

/** What is free together with what is freed. */
function together(free: Resources, freed: readonly Pick<GivingWay, 'demand'>[]): Resources {
  return sumOf([{ demand: free }, ...freed]);
}
