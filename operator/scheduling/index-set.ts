import { assert, InvalidInputError } from '#common/errors.ts';
import { tasksMax } from '#crds/grid-job.ts';

/** The last index of a task that there can be: whoever goes through a set is held up no longer than by a whole job. */
const indexMax = tasksMax - 1;

/** One run of indices, both ends included. */
interface Run {
  readonly first: number;
  readonly last: number;
}

/**
 * A set of task indices, kept as sorted runs, so that the set of a whole array job is one run. Immutable.
 * Its text form is that of `completedIndexes` of batch/v1 Jobs: `0-4,7`.
 */
export class IndexSet {
  static readonly empty = new IndexSet([]);
  private readonly runs: readonly Run[];

  private constructor(runs: readonly Run[]) {
    this.runs = runs;
  }

  /** All indices from `first` up to, not including, `end`. */
  static range(first: number, end: number): IndexSet {
    return end <= first ? IndexSet.empty : new IndexSet([{ first, last: end - 1 }]);
  }

  /** The set of these indices, in any order. */
  static of(indices: Iterable<number>): IndexSet {
    const runs: Run[] = [];
    for (const index of [...indices].sort((a, b) => a - b)) {
      const before = runs.at(-1);
      if (before !== undefined && index <= before.last + 1) {
        if (index > before.last) runs[runs.length - 1] = { first: before.first, last: index };
      } else runs.push({ first: index, last: index });
    }
    return new IndexSet(runs);
  }

  /**
   * Reads the text form; empty or undefined is the empty set.
   * @throws {InvalidInputError} when it is no list of ascending ranges.
   */
  static parse(text: string | undefined): IndexSet {
    if (text === undefined || text === '') return IndexSet.empty;
    const runs: Run[] = [];
    for (const part of text.split(',')) {
      const match = /^(\d{1,7})(?:-(\d{1,7}))?$/.exec(part);
      const first = Number(match?.[1]);
      const last = Number(match?.[2] ?? match?.[1]);
      if (match === null || last < first || last > indexMax || first <= (runs.at(-1)?.last ?? -1)) {
        throw new InvalidInputError(
          'indices',
          `${JSON.stringify(part.slice(0, 32))} is no ascending range such as 0-4`,
        );
      }
      runs.push({ first, last });
    }
    return new IndexSet(merge(runs));
  }

  get size(): number {
    return this.runs.reduce((sum, { first, last }) => sum + last - first + 1, 0);
  }

  has(index: number): boolean {
    let low = 0;
    let high = this.runs.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const { first, last } = this.at(middle);
      if (index < first) high = middle - 1;
      else if (index > last) low = middle + 1;
      else return true;
    }
    return false;
  }

  /** What both hold. */
  intersect(other: IndexSet): IndexSet {
    return this.minus(this.minus(other));
  }

  union(other: IndexSet): IndexSet {
    if (this.runs.length === 0) return other;
    if (other.runs.length === 0) return this;
    return new IndexSet(merge([...this.runs, ...other.runs].sort((a, b) => a.first - b.first)));
  }

  /** What is here and not in the other. */
  minus(other: IndexSet): IndexSet {
    const runs: Run[] = [];
    let at = 0;
    for (const run of this.runs) {
      let { first } = run;
      while (at < other.runs.length && other.at(at).last < first) at++;
      for (let i = at; i < other.runs.length && other.at(i).first <= run.last; i++) {
        const cut = other.at(i);
        if (cut.first > first) runs.push({ first, last: cut.first - 1 });
        first = Math.max(first, cut.last + 1);
      }
      if (first <= run.last) runs.push({ first, last: run.last });
    }
    return new IndexSet(runs);
  }

  /** The lowest `count` indices, or all when there are fewer. */
  take(count: number): IndexSet {
    const runs: Run[] = [];
    let left = count;
    for (const { first, last } of this.runs) {
      if (left <= 0) break;
      const end = Math.min(last, first + left - 1);
      runs.push({ first, last: end });
      left -= end - first + 1;
    }
    return new IndexSet(runs);
  }

  /** The indices, ascending. */
  *[Symbol.iterator](): Iterator<number> {
    for (const { first, last } of this.runs) for (let index = first; index <= last; index++) yield index;
  }

  private at(place: number): Run {
    const run = this.runs[place];
    assert(run !== undefined, `There is no run ${place}`);
    return run;
  }

  toString(): string {
    return this.runs.map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`)).join(',');
  }
}

/** Joins runs, sorted by their start, that touch or overlap. */
function merge(sorted: readonly Run[]): Run[] {
  const runs: Run[] = [];
  for (const run of sorted) {
    const before = runs.at(-1);
    if (before !== undefined && run.first <= before.last + 1) {
      runs[runs.length - 1] = { first: before.first, last: Math.max(before.last, run.last) };
    } else runs.push(run);
  }
  return runs;
}
