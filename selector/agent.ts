import type { ChannelCredentials, ServerCredentials } from '@grpc/grpc-js';
import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import type { Query } from '#proto/selector/contract.ts';
import { LiveFeed, type LiveSource } from './ads/live.ts';
import { Predicates, type LiveState } from './ads/predicate.ts';
import { Codec } from './api/codec.ts';
import { SelectorServer } from './api/server.ts';
import { GrpcTransport } from './api/transport.ts';
import { Ledger } from './ledger/ledger.ts';
import type { Resources } from '#proto/selector/resources.ts';
import type { ClaimStore } from './ledger/store.ts';
import { describeStatus, type StatusPage } from './monitor/status.ts';
import { checkAttributes, type Attributes } from '#proto/selector/attributes.ts';
import { Profile } from './overlay/descriptor.ts';
import { OverlayNode } from './overlay/node.ts';
import type { Evaluation } from './overlay/query-run.ts';
import type { OverlaySettings } from './overlay/settings.ts';
import type { Signer, Verifier } from './overlay/trust.ts';

/** What a selector stands on. */
export interface AgentComponents {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly signer: Signer;
  readonly verifier: Verifier;
  readonly store: ClaimStore;
  readonly liveSource: LiveSource;
  readonly clientCredentials: ChannelCredentials;
  readonly serverCredentials: ServerCredentials;
}

/** What a selector is told about itself. */
export interface AgentSettings {
  readonly site: string;
  readonly node: string;
  /** Where to listen, `host:port`. */
  readonly listen: string;
  /** Where peers reach it; its port 0 stands for the one listened on. */
  readonly advertise: string;
  readonly attributes: Attributes;
  readonly allocatable: Resources;
  readonly isOffering: boolean;
  /** Virtual organizations that may have this node; `*` is every one. */
  readonly virtualOrganizations: readonly string[];
  readonly overlay?: Partial<OverlaySettings>;
}

const settleEveryMs = 5_000;

/** One node's selector: overlay member, ledger, live values and the gRPC door, put together. */
export class SelectorAgent {
  readonly ledger: Ledger;
  private readonly components: AgentComponents;
  private readonly settings: AgentSettings;
  private readonly predicates: Predicates;
  private readonly feed: LiveFeed;
  private readonly server: SelectorServer;
  private readonly codec = new Codec();
  private readonly transport: GrpcTransport;
  private overlay: OverlayNode | undefined;
  private settleTimer: Timer | undefined;

  /** @throws {InvalidInputError} on attributes or resources that can't be. */
  constructor(components: AgentComponents, settings: AgentSettings) {
    checkAttributes(settings.attributes);
    this.components = components;
    this.settings = settings;
    const { clock } = components;
    this.feed = new LiveFeed(components.liveSource, clock);
    this.ledger = new Ledger(clock, components.store, () => this.feed.changed());
    this.ledger.setAllocatable(settings.allocatable);
    this.predicates = new Predicates(clock);
    this.transport = new GrpcTransport(components.clientCredentials, this.codec, clock);
    this.server = new SelectorServer({
      clock,
      codec: this.codec,
      ledger: this.ledger,
      logger: components.logger,
      receive: (message) => this.overlay?.receive(message),
      select: (query, request, onEnd, onOffers) => this.node.select(query, request, onEnd, onOffers),
      checkPredicates: (predicates) => this.predicates.check(predicates),
      watch: (predicates, listener) =>
        this.feed.subscribe(() => {
          const { node, ...values } = this.liveState();
          const verdict = this.predicates.evaluate(predicates, { node, ...values });
          listener({ ...values, broken: verdict.holds ? undefined : verdict.reason });
        }),
      status: () => this.status(),
    });
  }

  /** The overlay member. @throws before {@link start}. */
  get node(): OverlayNode {
    if (this.overlay === undefined) throw new Error('The selector has not been started');
    return this.overlay;
  }

  /**
   * Rebuilds the ledger, listens, and joins through any of `peers`.
   * @returns the port listened on.
   */
  async start(peers: readonly string[]): Promise<number> {
    await this.ledger.open();
    const port = await this.server.listen(this.settings.listen, this.components.serverCredentials);
    const { site, node, attributes, isOffering, advertise } = this.settings;
    const address = advertise.endsWith(':0') ? `${advertise.slice(0, -2)}:${port}` : advertise;
    const incarnation = this.components.clock.now();
    const profile = new Profile({ site, node, address, incarnation, attributes, isOffering });
    const { clock, random, signer, verifier } = this.components;
    const evaluate = (query: Query): Evaluation => this.evaluate(query);
    const parts = { clock, random, signer, verifier, transport: this.transport, evaluate };
    this.overlay = new OverlayNode(profile, parts, this.settings.overlay);
    this.overlay.start(peers);
    this.feed.start();
    this.scheduleSettling();
    this.components.logger.info('Selector started', { node: profile.id, address, peers: peers.length });
    return port;
  }

  /** Says goodbye to peers and stops. */
  async stop(): Promise<void> {
    this.settleTimer?.cancel();
    this.feed.stop();
    this.overlay?.stop();
    // The goodbyes have to leave before the streams are closed.
    await this.components.clock.sleep(100);
    this.transport.stop();
    this.server.stop();
  }

  /** The status page. */
  status(): StatusPage {
    return describeStatus(
      this.node,
      this.ledger,
      this.feed.current,
      this.transport.connectionCount,
      this.components.clock,
    );
  }

  private evaluate(query: Query): Evaluation {
    const { virtualOrganizations } = this.settings;
    if (!virtualOrganizations.includes('*') && !virtualOrganizations.includes(query.virtualOrganization)) {
      return { accepted: false, reason: `Site ${this.settings.site} does not accept this virtual organization` };
    }
    const lacking = this.ledger.reasonAgainstDemand(query.demand);
    if (lacking !== undefined) return { accepted: false, reason: lacking };
    const state = this.liveState();
    const verdict = this.predicates.evaluate(query.predicates, state);
    if (!verdict.holds) return { accepted: false, reason: verdict.reason };
    return { accepted: true, free: state.free, live: state.live };
  }

  private liveState(): LiveState {
    return { free: this.ledger.free(), live: this.feed.current, node: this.settings.attributes };
  }

  /** Expired spans and failed writes of the ledger are seen to now and then. */
  private scheduleSettling(): void {
    this.settleTimer = this.components.clock.after(
      settleEveryMs,
      () => {
        this.ledger
          .settle()
          .catch((error: unknown) =>
            this.components.logger.warn('Settling the ledger failed', { reason: describeError(error) }),
          )
          .finally(() => this.scheduleSettling());
      },
      { unref: true },
    );
  }
}
