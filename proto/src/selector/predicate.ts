import { Environment, type ASTNode } from '@marcbachmann/cel-js';
import type { Clock } from '#common/clock.ts';
import { InvalidInputError, describeError } from '#common/errors.ts';
import type { Attributes } from './attributes.ts';
import { queryLimits } from './contract.ts';

/** What predicates may look at: the state of the node at this moment. */
export interface LiveState {
  /** Free resources by the ledger: `cpu` in millicores, `memory` and `disk` in bytes. In CEL `free`, whole numbers. */
  readonly free: Readonly<Record<string, number>>;
  /** Measured values such as `load1`, `memoryPressure`, `jobs`. In CEL `live`, floating-point numbers. */
  readonly live: Readonly<Record<string, number>>;
  /** Static attributes. In CEL `node`. */
  readonly node: Attributes;
}

/** Whether predicates hold, or the first that doesn't, as a sentence. */
export type Verdict = { readonly holds: true } | { readonly holds: false; readonly reason: string };

/** Limits of one predicate (threat 61). */
export const predicateLimits = {
  maxAstNodes: 128,
  maxDepth: 24,
  maxListElements: 64,
  maxMapEntries: 1,
  maxCallArguments: 3,
} as const;

/**
 * Milliseconds that the predicates of one query may take together. Bounded work takes far less than one; this much means
 * that the machine is stalled, and then it should not offer itself.
 */
const timeMaxMs = 100;
const cacheMax = 256;

/**
 * Functions that a predicate may call. Each costs no more than its arguments are long, so that with the limits above
 * the work of a predicate is bounded before it runs: an evaluation can't be interrupted. Left out are regular
 * expressions (backtracking), `map`, `filter` and `cel.bind` (they build values that grow).
 */
const allowedCalls = new Set([
  'size',
  'has',
  'startsWith',
  'endsWith',
  'contains',
  'int',
  'double',
  'string',
  'exists',
  'all',
  'exists_one',
]);
const loops = new Set(['exists', 'all', 'exists_one']);

type Program = (context: Record<string, unknown>) => unknown;

/** Compiles and evaluates predicates and ranks; compiled ones are kept, at most {@link cacheMax}. */
export class Predicates {
  private readonly environment = new Environment({ limits: predicateLimits })
    .registerVariable('free', 'map<string, int>')
    .registerVariable('live', 'map<string, double>')
    .registerVariable('node', 'map<string, dyn>');
  private readonly compiled = new Map<string, Program>();
  private readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /**
   * Refuses predicates that can't be used.
   * @throws {InvalidInputError} naming the predicate, what is wrong with it and what is allowed.
   */
  check(predicates: readonly string[], field = 'predicates'): void {
    if (predicates.length > queryLimits.predicates) {
      throw new InvalidInputError(field, `at most ${queryLimits.predicates} predicates, not ${predicates.length}`);
    }
    for (const [index, text] of predicates.entries()) this.compile(text, `${field}[${index}]`);
  }

  /** Evaluates; all must hold. A predicate that fails to evaluate does not hold, and the reason says why. */
  evaluate(predicates: readonly string[], state: LiveState): Verdict {
    if (predicates.length === 0) return { holds: true };
    try {
      this.check(predicates);
    } catch (error) {
      return { holds: false, reason: `Predicate refused: ${describeError(error)}` };
    }
    const context = contextOf(state);
    const begin = this.clock.monotonic();
    for (const text of predicates) {
      try {
        if (this.compile(text, 'predicate')(context) !== true) return { holds: false, reason: `Not so now: ${text}` };
      } catch (error) {
        return { holds: false, reason: `Can not tell: ${text}: ${firstLine(error)}` };
      }
      if (this.clock.monotonic() - begin > timeMaxMs) {
        return { holds: false, reason: `Predicates took more than ${timeMaxMs} ms` };
      }
    }
    return { holds: true };
  }

  /**
   * Refuses a rank that can't be used.
   * @throws {InvalidInputError} as for predicates.
   */
  checkRank(text: string, field = 'rank'): void {
    this.compile(text, field, 'number');
  }

  /** How good a node is by a rank; higher is better. Where it can't be evaluated, the node is the worst there is. */
  score(rank: string, state: LiveState): number {
    try {
      const value = this.compile(rank, 'rank', 'number')(contextOf(state));
      const score = typeof value === 'bigint' ? Number(value) : value;
      return typeof score === 'number' && !Number.isNaN(score) ? score : -Infinity;
    } catch {
      return -Infinity;
    }
  }

  private compile(text: string, field: string, yields: 'truth' | 'number' = 'truth'): Program {
    const known = this.compiled.get(`${yields} ${text}`);
    if (known !== undefined) return known;
    if (text.length > queryLimits.predicateLength) {
      throw new InvalidInputError(field, `at most ${queryLimits.predicateLength} characters, not ${text.length}`);
    }
    let program;
    try {
      program = this.environment.parse(text);
    } catch (error) {
      throw new InvalidInputError(field, `${JSON.stringify(text)} is no CEL expression: ${firstLine(error)}`);
    }
    assertAllowed(program.ast, text, field, 0);
    const { valid, type, error } = program.check();
    if (!valid) throw new InvalidInputError(field, `${JSON.stringify(text)}: ${firstLine(error)}`);
    const wanted = yields === 'truth' ? ['bool', 'dyn'] : ['int', 'double', 'dyn'];
    if (type === undefined || !wanted.includes(type)) {
      const must = yields === 'truth' ? 'true or false' : 'a number';
      throw new InvalidInputError(field, `${JSON.stringify(text)} yields ${type ?? 'nothing'}: it must be ${must}`);
    }
    this.compiled.set(`${yields} ${text}`, program);
    if (this.compiled.size > cacheMax) {
      const [first] = this.compiled.keys();
      if (first !== undefined) this.compiled.delete(first);
    }
    return program;
  }
}

/** Walks a parsed predicate and refuses calls that are not on the list, and loops within loops. */
function assertAllowed(node: unknown, text: string, field: string, loopDepth: number): void {
  if (Array.isArray(node)) {
    for (const item of node) assertAllowed(item, text, field, loopDepth);
    return;
  }
  if (typeof node !== 'object' || node === null || !('op' in node) || !('args' in node)) return;
  const { op, args } = node as ASTNode;
  let depth = loopDepth;
  if (op === 'call' || op === 'rcall') {
    const [name] = args;
    if (!allowedCalls.has(name)) {
      const allowed = [...allowedCalls].join(', ');
      throw new InvalidInputError(
        field,
        `${JSON.stringify(text)} calls ${name}, which is not allowed here: use ${allowed}`,
      );
    }
    if (loops.has(name)) depth++;
    if (depth > 1) throw new InvalidInputError(field, `${JSON.stringify(text)} loops within a loop: use one at most`);
  }
  assertAllowed(args, text, field, depth);
}

function contextOf({ free, live, node }: LiveState): Record<string, unknown> {
  const whole = Object.fromEntries(Object.entries(free).map(([name, amount]) => [name, BigInt(amount)]));
  return { free: whole, live, node };
}

function firstLine(error: unknown): string {
  return describeError(error).split('\n')[0]?.slice(0, 200) ?? '';
}
