import { randomUUID } from 'node:crypto';
import type { Clock } from '#common/clock.ts';
import type { Random } from '#common/random.ts';
import { ErrorType, PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { RpcError } from '../rpc/errors.ts';
import type { Caller } from './core/access.ts';
import type { CapabilitySigner } from './core/capabilities.ts';
import { metaKey } from './core/keys.ts';
import { OpenFiles } from './core/open-files.ts';
import type { CoreEnv, Operation } from './core/operation.ts';
import { readVolumes, Tx } from './core/tx.ts';
import { isSnapshot, type Snapshot, type Volume } from './core/volume.ts';
import type { Placement } from './placement/placement.ts';
import type { KvStore } from './store/kv.ts';

/** What an engine is made of. */
export interface EngineOptions {
  readonly store: KvStore;
  readonly clock: Clock;
  /** Global time, milliseconds (the DIR's clock); the local one when undefined. */
  readonly globalNowMs?: () => number;
  readonly random: Random;
  readonly placement: Placement;
  readonly signer: CapabilitySigner;
  /** `pbrpc://host:port` of this MRC. */
  readonly url: string;
  readonly capabilityTimeoutS: number;
  readonly renewsExpired: boolean;
  readonly noAtime: boolean;
  /**
   * Whether no other process can have changed anything since: asked before each answer. Default: this is the only one.
   */
  readonly isCurrent?: () => boolean;
}

const noSnapshots: readonly Snapshot[] = [];

/** The MRC's own user, for work that nobody asked for. */
export const systemCaller: Caller = { user: '', groups: [], isSuper: true, client: '' };

/**
 * Carries out operations on the store, one after the other, and answers when what they did or saw is durable.
 * It is the whole metadata service without network, DIR and OSDs.
 */
export class Engine {
  readonly store: KvStore;
  readonly env: CoreEnv;
  private readonly nowMs: () => number;
  private readonly isCurrent: () => boolean;
  private lastNs = 0n;
  private readonly volumes = new Map<number, Volume>();
  private readonly names = new Map<string, Volume>();
  private readonly ids = new Map<string, Volume>();
  /** By the number of their volume. */
  private readonly snapshots = new Map<number, readonly Snapshot[]>();

  constructor(options: EngineOptions) {
    this.store = options.store;
    this.nowMs = options.globalNowMs ?? ((): number => options.clock.now());
    this.isCurrent = options.isCurrent ?? ((): boolean => true);
    for (const volume of readVolumes(this.store)) this.volumes.set(volume.number, volume);
    this.index();
    this.env = {
      random: options.random,
      placement: options.placement,
      signer: options.signer,
      openFiles: new OpenFiles(options.clock, options.capabilityTimeoutS),
      capabilityTimeoutS: options.capabilityTimeoutS,
      renewsExpired: options.renewsExpired,
      noAtime: options.noAtime,
      runId: randomUUID(),
      url: options.url,
      findVolume: (name) => this.names.get(name),
      findVolumeById: (id) => this.ids.get(id),
      snapshotsOf: (volume) => this.snapshots.get(volume.number) ?? noSnapshots,
    };
  }

  /** Volumes that are no snapshots, by name. */
  listVolumes(): Volume[] {
    return [...this.ids.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Every volume record, snapshots and unfinished ones too. */
  allVolumes(): Volume[] {
    return [...this.volumes.values()];
  }

  /** Its snapshots that are whole, oldest first. */
  snapshotsOf(volume: Volume): Snapshot[] {
    return this.env.snapshotsOf(volume).filter(({ snapshotOf }) => snapshotOf.isComplete);
  }

  /**
   * Runs one operation and resolves when its effects, and everything that it saw, survive a crash: an answer never tells of a state
   * that could still vanish. Refusals wait for what they were decided on, too.
   */
  run<T>(caller: Caller, body: (op: Operation) => T): T | Promise<T> {
    const tx = new Tx(this.store, this.nextNs(), (number) => this.volumes.get(number));
    let value: T;
    try {
      value = body({ tx, caller, env: this.env });
    } catch (error) {
      this.demandCurrent();
      const seen = this.store.takeReadTicket();
      if (seen <= this.store.durableTicket) throw error;
      return this.store.durable(seen).then(() => {
        throw error;
      });
    }
    this.demandCurrent();
    const writes = tx.takeWrites();
    const seen = this.store.takeReadTicket();
    const ticket = writes.size === 0 ? seen : this.store.apply(writes);
    if (tx.volumeChanges.size > 0) this.takeVolumes(tx.volumeChanges);
    return ticket <= this.store.durableTicket ? value : this.store.durable(ticket).then(() => value);
  }

  /** After a read and before its answer: what was read was the newest then. */
  private demandCurrent(): void {
    if (this.isCurrent()) return;
    throw new RpcError('This MRC can not tell whether it still leads: ask again, or another one', {
      errorType: ErrorType.INTERNAL_SERVER_ERROR,
      posixErrno: PosixErrno.EIO,
    });
  }

  /** Reads without waiting for durability: for the MRC's own use, never for an answer to a client. */
  runNow<T>(caller: Caller, body: (op: Operation) => T): T {
    const tx = new Tx(this.store, this.nextNs(), (number) => this.volumes.get(number));
    const value = body({ tx, caller, env: this.env });
    this.store.takeReadTicket();
    return value;
  }

  /** A number that no volume had before. */
  nextVolumeNumber(tx: Tx): number {
    const key = metaKey('next-volume');
    const number = Number(Buffer.from(tx.get(key) ?? '1').toString());
    tx.put(key, Buffer.from(String(number + 1)));
    return number;
  }

  /** Strictly rising, so that every change of an object changes its attribute state. */
  private nextNs(): bigint {
    const now = BigInt(Math.trunc(this.nowMs() * 1000)) * 1000n;
    this.lastNs = now > this.lastNs ? now : this.lastNs + 1n;
    return this.lastNs;
  }

  private takeVolumes(changes: ReadonlyMap<number, Volume | undefined>): void {
    for (const [number, volume] of changes) {
      if (volume === undefined) this.volumes.delete(number);
      else this.volumes.set(number, volume);
    }
    this.index();
  }

  private index(): void {
    this.names.clear();
    this.ids.clear();
    this.snapshots.clear();
    for (const volume of this.volumes.values()) {
      const { snapshotOf } = volume;
      if (snapshotOf === undefined) {
        this.names.set(volume.name, volume);
        this.ids.set(volume.id, volume);
      }
    }
    for (const volume of this.volumes.values()) {
      if (!isSnapshot(volume)) continue;
      const { snapshotOf } = volume;
      const all = [...(this.snapshots.get(snapshotOf.volume) ?? []), volume];
      this.snapshots.set(
        snapshotOf.volume,
        all.sort((a, b) => a.number - b.number),
      );
      const parent = this.volumes.get(snapshotOf.volume);
      if (parent !== undefined && snapshotOf.isComplete) this.names.set(`${parent.name}@${snapshotOf.name}`, volume);
    }
  }
}
