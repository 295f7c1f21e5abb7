import { describeError } from '#common/errors.ts';
import { globalId } from '#common/identity/ids.ts';
import { CredentialError } from '#common/identity/jws.ts';
import type { Logger } from '#common/logger.ts';
import { organizationNamespace } from '#crds/organization.ts';
import type { Site } from '#crds/site.ts';
import { type FollowEvent, type FollowRequest, peerMethods } from '#proto/site/schema.ts';
import { type PeerChannels, PeerError, type PeerErrorReason } from '#operator/gateway/peers/contract.ts';
import type { Informer, Runnable } from '#runtime/contracts.ts';
import { isServerTrouble } from '#runtime/errors.ts';
import type { Heard } from './heard.ts';
import { Mirror, type MirrorParts, NotFollowableError } from './mirror.ts';
import type { SeenStates } from './seen-states.ts';
import { ForgottenStateError, Told } from './told.ts';

/** What was changed here is put right so often, and what failed is tried again, milliseconds. */
const lookMs = 5000;
/** After a call ended the home is asked again, milliseconds. */
const retryMs = 2000;
/** Without word from the home for so long nothing new starts here (`maxStaleSeconds` of the state), milliseconds. */
const staleMs = 900_000;

/** Of so many members the home is told in one message. */
const idsAtOnce = 50_000;
/** After these nothing new starts here, however lately the home was heard of. */
const finalReasons: ReadonlySet<PeerErrorReason> = new Set(['Refused', 'Cut', 'Unknown']);

/** What following takes. */
export interface FollowerParts extends MirrorParts {
  readonly channels: PeerChannels;
  readonly heard: Heard;
  readonly seen: SeenStates;
  readonly sites: Informer<Site>;
  readonly log: Logger;
  readonly synced: (signal: AbortSignal) => Promise<void>;
}

/** Follows the virtual organizations that the owner of this site accepts from peers. Only the leader does. */
export class Follower implements Runnable {
  readonly name = 'organization-follower';
  private readonly parts: FollowerParts;
  private readonly running = new Map<string, { readonly stopper: AbortController; readonly end: Promise<void> }>();

  constructor(parts: FollowerParts) {
    this.parts = parts;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.parts;
    try {
      await this.parts.synced(signal);
      while (!signal.aborted) {
        const wanted = this.wanted();
        for (const [key, { stopper }] of this.running) {
          if (wanted.has(key)) continue;
          stopper.abort();
          this.running.delete(key);
        }
        for (const [key, { name, home }] of wanted) {
          if (this.running.has(key)) continue;
          const stopper = new AbortController();
          const ended = AbortSignal.any([signal, stopper.signal]);
          this.running.set(key, { stopper, end: new Following(this.parts, name, home).run(ended) });
        }
        // A bug or a lost lease ends the process, as anywhere.
        const failed = [...this.running.values()].map(async ({ end }) => end);
        await Promise.race([clock.sleep(lookMs, signal), ...failed]);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      for (const { stopper } of this.running.values()) stopper.abort();
      await Promise.allSettled([...this.running.values()].map(async ({ end }) => end));
    }
  }

  private wanted(): Map<string, { readonly name: string; readonly home: string }> {
    const site = this.parts.sites.get({ name: this.parts.localSite });
    const accepted = site?.spec.type === 'Local' ? site.spec.local.acceptedVirtualOrganizations : [];
    return new Map(
      accepted.flatMap(({ name, home }) => (home === undefined ? [] : [[`${home}/${name}`, { name, home }] as const])),
    );
  }
}

/** One virtual organization that is followed. */
class Following {
  private readonly parts: FollowerParts;
  private readonly name: string;
  private readonly home: string;
  private readonly mirror: Mirror;
  private told: Told | undefined;
  /** Monotonic. */
  private heardMs = -Infinity;
  private isOpen = false;
  private wake: () => void = () => undefined;

  constructor(parts: FollowerParts, name: string, home: string) {
    this.parts = parts;
    this.name = name;
    this.home = home;
    this.mirror = new Mirror(parts);
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.recall(signal);
    await Promise.all([this.listen(signal), this.write(signal)]);
  }

  /** What an earlier process has heard holds as long as it did there; a home that was never followed gets as long to be found. */
  private async recall(signal: AbortSignal): Promise<void> {
    const { clock, heard } = this.parts;
    while (!signal.aborted) {
      try {
        const ageMs = await heard.ageMs(this.name, signal);
        if (ageMs === undefined) await heard.note(this.name, this.home, signal);
        this.heardMs = clock.monotonic() - (ageMs ?? 0);
        return;
      } catch (error) {
        if (isAborted(signal)) return;
        if (!isServerTrouble(error)) throw error;
        await clock.sleep(retryMs, signal).catch(() => undefined);
      }
    }
  }

  private async listen(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.parts;
    while (!signal.aborted) {
      try {
        await this.hear(signal);
      } catch (error) {
        if (isAborted(signal)) return;
        if (!(error instanceof PeerError || error instanceof CredentialError)) throw error;
        // Its home, or the owner of this site, has said that it is over: that counts at once.
        if (error instanceof PeerError && finalReasons.has(error.reason)) this.heardMs = -Infinity;
        const problem = describeError(error);
        log.warn('Can not follow VirtualOrganization', { VirtualOrganization: this.name, Site: this.home, problem });
        await this.ignoreServer(this.mirror.refuse(this.name, problem.slice(0, 500), signal));
        if (error instanceof ForgottenStateError) await this.remind(signal);
      } finally {
        this.isOpen = false;
        this.wake();
      }
      await clock.sleep(retryMs, signal).catch(() => undefined);
    }
  }

  /** One call: everything, then what changes. What was told before holds until everything was told anew. */
  private async hear(signal: AbortSignal): Promise<void> {
    const { organizations, channels, clock } = this.parts;
    const { genesis, epoch = 0, stateDigest: digest } = organizations.get({ name: this.name })?.status ?? {};
    const told = new Told(this.home, { genesis, epoch, digest });
    const request = async function* (virtualOrganization: string): AsyncGenerator<FollowRequest> {
      yield Promise.resolve({ virtualOrganization });
    };
    const channel = channels.channel(this.home);
    const events = channel.stream<FollowRequest, FollowEvent>(peerMethods.Follow, request(this.name), { signal });
    for await (const event of events) {
      await told.take(event);
      this.heardMs = clock.monotonic();
      if (!told.isWhole) continue;
      this.told = told;
      this.isOpen = true;
      this.wake();
    }
  }

  /** The home signed what it does not know any more: it is told, with the ids that were given out, so that nobody else gets them. */
  private async remind(signal: AbortSignal): Promise<void> {
    const { seen, channels, memberships, log } = this.parts;
    const about = { VirtualOrganization: this.name, Site: this.home };
    try {
      const state = await seen.read(this.name, signal);
      if (state === undefined) return;
      const ids = memberships
        .list(organizationNamespace(this.name))
        .flatMap(({ spec }) => (spec.identity === undefined ? [] : [globalId(spec.identity)]));
      for (let from = 0; from === 0 || from < ids.length; from += idsAtOnce) {
        const some = { virtualOrganization: this.name, state, ids: ids.slice(from, from + idsAtOnce) };
        await channels.channel(this.home).call(peerMethods.Remind, some, { signal });
      }
      log.warn('Reminded the home of a VirtualOrganization of what it signed and does not know any more', about);
    } catch (error) {
      if (isAborted(signal)) return;
      if (!(error instanceof PeerError || isServerTrouble(error))) throw error;
      log.warn('Can not remind the home of a VirtualOrganization', { ...about, problem: describeError(error) });
    }
  }

  private async write(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.parts;
    while (!signal.aborted) {
      const changed = new AbortController();
      this.wake = () => changed.abort();
      // An open call is word from the home: gRPC ends it when the link falls silent.
      if (this.isOpen) await this.note(signal);
      const isFresh = clock.monotonic() - this.heardMs < staleMs;
      try {
        if (this.told !== undefined) await this.take(this.told, isFresh, signal);
        else if (!isFresh) await this.mirror.freeze(this.name, signal);
      } catch (error) {
        if (isAborted(signal)) return;
        if (error instanceof NotFollowableError) {
          log.warn('Can not follow VirtualOrganization', { VirtualOrganization: this.name, problem: error.message });
          await this.ignoreServer(this.mirror.refuse(this.name, error.message, signal));
        } else if (!isServerTrouble(error)) throw error;
        else
          log.debug('VirtualOrganization is not as its home tells yet', {
            VirtualOrganization: this.name,
            problem: error.message,
          });
      }
      await clock.sleep(lookMs, AbortSignal.any([signal, changed.signal])).catch(() => undefined);
    }
  }

  /** What was verified is kept before anybody acts on it. */
  private async take(told: Told, isFresh: boolean, signal: AbortSignal): Promise<void> {
    if (told.organization !== undefined) await this.parts.seen.keep(this.name, told.organization.state, signal);
    await this.mirror.write(this.name, told, isFresh, signal);
  }

  private async note(signal: AbortSignal): Promise<void> {
    const { clock, heard } = this.parts;
    this.heardMs = clock.monotonic();
    await this.ignoreServer(heard.note(this.name, this.home, signal));
  }

  /** What could not be written now is written at the next look. */
  private async ignoreServer(writing: Promise<void>): Promise<void> {
    try {
      await writing;
    } catch (error) {
      if (!isServerTrouble(error)) throw error;
    }
  }
}

/** Asked anew each time. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
