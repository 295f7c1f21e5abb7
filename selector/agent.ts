import { isDeepStrictEqual } from 'node:util';
import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import type { Query } from '#proto/selector/contract.ts';
import { LiveFeed, type LiveSource } from './ads/live.ts';
import { Predicates, type LiveState } from '#proto/selector/predicate.ts';
import type { SelectorService } from './api/server.ts';
import { Ledger } from './ledger/ledger.ts';
import type { BoundPod } from './ledger/occupancy.ts';
import type { Resources } from '#proto/selector/resources.ts';
import type { ClaimStore } from './ledger/store.ts';
import { describeStatus, type StatusPage } from './monitor/status.ts';
import { checkAttributes, type Attributes } from '#proto/selector/attributes.ts';
import { Profile } from './overlay/descriptor.ts';
import type { Transport } from './overlay/messages.ts';
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
  readonly transport: Transport;
  /** Asks a pod of this node to end. @param uid - of a pod of {@link NodeView.pods}. */
  readonly endPod: (uid: string) => Promise<void>;
}

/** What may change about a node while its selector runs. */
export interface NodeView {
  readonly attributes: Attributes;
  readonly allocatable: Resources;
  /** Pods bound to it, whoever made them. */
  readonly pods: readonly BoundPod[];
  /** Virtual organizations that may have this node; `*` is every one. */
  readonly virtualOrganizations: readonly string[];
  /** Why the node takes no new work, as a sentence; undefined when it does. */
  readonly refusal: string | undefined;
}

/** What a selector is told about itself. */
export interface AgentSettings {
  readonly site: string;
  readonly node: string;
  readonly isOffering: boolean;
  readonly overlay?: Partial<OverlaySettings>;
}

/** Work is told to leave a reservation's place in time; nothing else of the ledger is in such a hurry. */
const settleEveryMs = 1_000;

/** One node's selector: overlay member, ledger, live values and the gRPC door, put together. */
export class SelectorAgent {
  readonly ledger: Ledger;
  /** What it does for those who ask; nothing before {@link open}. */
  readonly service: SelectorService;
  private readonly components: AgentComponents;
  private readonly settings: AgentSettings;
  private readonly predicates: Predicates;
  private view: NodeView;
  /** Where peers reach it; empty before {@link start}. */
  address = '';
  private readonly feed: LiveFeed;
  private overlay: OverlayNode | undefined;
  private settleTimer: Timer | undefined;

  /** @param view - the node as it is now. @throws {InvalidInputError} on attributes or resources that can't be. */
  constructor(components: AgentComponents, settings: AgentSettings, view: NodeView) {
    checkAttributes(view.attributes);
    this.view = view;
    this.components = components;
    this.settings = settings;
    const { clock } = components;
    this.feed = new LiveFeed(components.liveSource, clock);
    this.ledger = new Ledger(clock, components.store, () => this.feed.changed());
    this.ledger.setAllocatable(view.allocatable);
    this.ledger.setPods(view.pods);
    this.predicates = new Predicates(clock);
    this.service = {
      ledger: this.ledger,
      reasonAgainst: (virtualOrganization) => this.reasonAgainst(virtualOrganization),
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
    };
  }

  /** The overlay member. @throws before {@link start}. */
  get node(): OverlayNode {
    if (this.overlay === undefined) throw new Error('The selector has not been started');
    return this.overlay;
  }

  /** Rebuilds the ledger from the store. Whoever listens for the service does so afterwards. */
  async open(): Promise<void> {
    await this.ledger.open();
  }

  /** Joins through any of `peers`. @param address - where peers reach this node, `host:port`. */
  start(address: string, peers: readonly string[]): void {
    this.address = address;
    this.join(peers);
    this.feed.start();
    this.scheduleSettling();
    this.components.logger.info('Selector started', { Node: this.settings.node, address, peers: peers.length });
  }

  /**
   * Takes in what has changed about the node. New attributes make a new member of the overlay, as a restart does: peers
   * take the later start for the true one.
   */
  update(view: NodeView): void {
    const hasMoved = !isDeepStrictEqual(view.attributes, this.view.attributes);
    if (hasMoved) checkAttributes(view.attributes);
    this.view = view;
    this.ledger.setAllocatable(view.allocatable);
    this.ledger.setPods(view.pods);
    if (!hasMoved || this.overlay === undefined) return;
    const peers = this.overlay.peerAddresses;
    this.overlay.halt();
    this.join(peers);
    this.components.logger.info('Attributes changed', { attributes: view.attributes });
  }

  /** Sets through whom to join again when everybody known is lost. */
  setPeers(peers: readonly string[]): void {
    this.overlay?.setSeeds(peers);
  }

  /** Says goodbye to peers and stops. The transport has to live a moment longer, so that the words leave. */
  stop(): void {
    this.settleTimer?.cancel();
    this.feed.stop();
    this.overlay?.stop();
  }

  /** The status page. */
  status(): StatusPage {
    return describeStatus(this.node, this.ledger, this.feed.current, this.components.clock);
  }

  private join(peers: readonly string[]): void {
    const { site, node, isOffering } = this.settings;
    const { clock, random, signer, verifier, transport } = this.components;
    const { attributes } = this.view;
    const incarnation = clock.now();
    const profile = new Profile({ site, node, address: this.address, incarnation, attributes, isOffering });
    const evaluate = (query: Query): Evaluation => this.evaluate(query);
    const parts = { clock, random, signer, verifier, transport, evaluate };
    this.overlay = new OverlayNode(profile, parts, this.settings.overlay);
    this.overlay.start(peers);
  }

  /** The site has the last word on who may have its node, and whether it takes work at all. */
  private reasonAgainst(virtualOrganization: string): string | undefined {
    const { virtualOrganizations, refusal } = this.view;
    if (virtualOrganizations.includes('*') || virtualOrganizations.includes(virtualOrganization)) return refusal;
    return `Site ${this.settings.site} does not accept this virtual organization`;
  }

  private evaluate(query: Query): Evaluation {
    const reason = this.reasonAgainst(query.virtualOrganization);
    if (reason !== undefined) return { accepted: false, reason };
    const lacking = this.ledger.reasonAgainstDemand(query.demand, query);
    if (lacking !== undefined) return { accepted: false, reason: lacking };
    const state = { ...this.liveState(), free: this.ledger.free(query) };
    const verdict = this.predicates.evaluate(query.predicates, state);
    if (!verdict.holds) return { accepted: false, reason: verdict.reason };
    return { accepted: true, free: state.free, live: state.live };
  }

  private liveState(): LiveState {
    return { free: this.ledger.free(), live: this.feed.current, node: this.view.attributes };
  }

  /** Expired spans, failed writes and places that are to be cleared are seen to in time. */
  private scheduleSettling(): void {
    const untilNext = this.ledger.leaving().nextAt - this.components.clock.now();
    this.settleTimer = this.components.clock.after(
      Math.max(1, Math.min(settleEveryMs, untilNext)),
      () => {
        this.settle()
          .catch((error: unknown) =>
            this.components.logger.warn('Settling the ledger failed', { reason: describeError(error) }),
          )
          .finally(() => this.scheduleSettling());
      },
      { unref: true },
    );
  }

  private async settle(): Promise<void> {
    const { pods } = this.ledger.leaving();
    for (const { uid } of pods) {
      this.components.logger.info('Ending a pod that gives way to a reservation', { Node: this.settings.node, uid });
      await this.components.endPod(uid);
    }
    await this.ledger.settle();
  }
}
