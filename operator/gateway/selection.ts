/** Which nodes would take some work at this moment: a query as jobs ask it, after which nothing is held. */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import type { SelectionAnswer } from '#common/identity/gateway-api.ts';
import { InvalidInputError } from '#common/errors.ts';
import { demand, placement, requirements } from '#crds/requirements.ts';
import { ask } from '#operator/scheduling/ask.ts';
import { readRefusal } from '#operator/scheduling/refusals.ts';
import { fits, isSiteWanted, type Shape, shapeOf } from '#operator/scheduling/shape.ts';
import { type ResourceSelection, SelectorUnavailableError } from '#proto/selector/contract.ts';
import { Predicates } from '#proto/selector/predicate.ts';
import { Refusal } from './refusal.ts';

const wantedMax = 200;
/** Within what a request may take at the gateway. */
const timeoutMs = 5_000;
/** Queries that one replica has under way: each visits many nodes. */
const queriesMax = 16;

/** Body of `POST /v1/virtual-organizations/NAME/selection`: the words of a GridJob. */
export const selectionRequest = z.strictObject({
  requirements: requirements.default({ static: [], dynamic: [] }),
  resources: demand.default({ cpu: '100m', memory: '128Mi', devices: [] }),
  placement: placement.default({ spread: 'Pack' }),
  /** How many nodes are enough. */
  wanted: z.int().min(1).max(wantedMax).default(50),
});
type SelectionRequest = z.infer<typeof selectionRequest>;

/** Asks selectors on behalf of members. */
export class Explorer {
  private readonly selection: ResourceSelection;
  private readonly siteName: string;
  private readonly predicates: Predicates;
  private underWay = 0;

  /** @param selection - of nodes of all sites. @param siteName - of this one. */
  constructor(selection: ResourceSelection, siteName: string, clock: Clock) {
    this.selection = selection;
    this.siteName = siteName;
    this.predicates = new Predicates(clock);
  }

  /** @throws {Refusal} when the request makes no sense, or selectors can not be asked now. */
  async explore(virtualOrganization: string, request: SelectionRequest): Promise<SelectionAnswer> {
    if (this.underWay >= queriesMax) {
      throw new Refusal('TooManyRequests', 'Too many such questions at once: ask again in a moment.', {
        retryAfterSeconds: 1,
      });
    }
    this.underWay++;
    try {
      return await this.answer(virtualOrganization, request);
    } catch (error) {
      if (error instanceof InvalidInputError) throw new Refusal('InvalidRequest', error.message, { cause: error });
      if (!(error instanceof SelectorUnavailableError)) throw error;
      throw new Refusal('Unavailable', 'The selector of this site does not answer: try again in a moment.', {
        reason: 'SelectorUnavailable',
        retryAfterSeconds: 2,
        cause: error,
      });
    } finally {
      this.underWay--;
    }
  }

  private async answer(virtualOrganization: string, request: SelectionRequest): Promise<SelectionAnswer> {
    const shape: Shape = shapeOf(virtualOrganization, request, this.predicates);
    const { constraints, predicates, demand: amount } = shape;
    const query = { id: randomUUID(), constraints, predicates, demand: amount, virtualOrganization };
    const found = await ask(this.selection, query, { wanted: request.wanted, timeoutMs });
    const nodes = found.offers
      .filter(({ site }) => isSiteWanted(shape, site))
      .map(({ site, node, attributes, free, live }) => ({
        ...{ site, node, attributes, free, live },
        fits: fits(amount, free),
      }));
    const refusals = Object.entries(found.refusals).map(([counted, count]) => {
      const { reason, site } = readRefusal(counted, this.siteName);
      return { reason: site === this.siteName ? reason : `${site}: ${reason}`, nodes: count };
    });
    return { nodes, refusals: refusals.sort((a, b) => b.nodes - a.nodes), isWhole: found.isWhole };
  }
}
