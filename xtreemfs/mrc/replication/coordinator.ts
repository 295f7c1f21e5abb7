import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { LeaseState } from '#proto/generated/xtreemfs/global-types.ts';
import type { FileCredentials, VivaldiCoordinates } from '#proto/generated/xtreemfs/global-types.ts';
import type { AuthoritativeReplicaState, ReplicaStatus } from '#proto/generated/xtreemfs/osd.ts';
import type { Caller } from '../core/access.ts';
import { deleteCredentials, issueCapability, signedXlocs } from '../core/capabilities.ts';
import { lockForChange, unlockAfterChange } from '../core/changes.ts';
import { PosixError, refuse } from '../core/errno.ts';
import type { Operation } from '../core/operation.ts';
import { replicationOf } from '../core/policies.ts';
import type { Inode, ReplicaRecord, XlocRecord } from '../core/records.ts';
import { eraseLater } from '../core/removal.ts';
import {
  changeableXlocs,
  installXlocs,
  replicaFlags,
  suitableOsds,
  withoutReplica,
  withOtherOsds,
  withPolicy,
  withReplica,
} from '../core/replicas.ts';
import type { Volume } from '../core/volume.ts';
import type { Engine } from '../engine.ts';
import { systemCaller } from '../engine.ts';
import { authoritativeState, isCurrent } from './authoritative-state.ts';
import type { OsdCalls } from './osd-calls.ts';
import { copyStripes, movesBetween, osdsToInvalidate, type StripeMove } from './stripe-move.ts';

/** A file, wherever it is named. */
export interface FileRef {
  readonly volume: Volume;
  readonly ino: number;
}

/** What a coordinator is made of. */
export interface CoordinatorOptions {
  readonly engine: Engine;
  readonly osds: OsdCalls;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Longest that an OSD may go on as primary or backup of an old view, milliseconds (Flease lease). */
  readonly leaseTimeoutMs: number;
  /** Pause between two questions whether a new replica is filled, milliseconds. */
  readonly pollMs: number;
  /** Attempts per step before a change is given up. */
  readonly triesMax: number;
}

interface Change {
  readonly file: FileRef;
  readonly from: XlocRecord;
  readonly to: XlocRecord;
  /** Places that go to other OSDs with what is there. */
  readonly moves: readonly StripeMove[];
}

interface Begun extends Change {
  /** Why the change was undone; undefined when it was made. */
  readonly outcome: Promise<Error | undefined>;
}

const isRw = (xlocs: XlocRecord): boolean => xlocs.policy === 'WqRq' || xlocs.policy === 'WaR1';
const headsOf = (xlocs: XlocRecord): string[] => xlocs.replicas.map((replica) => replica.osds[0] ?? '');
const majority = (count: number): number => Math.floor(count / 2) + 1;

/**
 * Changes a file's replica set so that no write is lost and no client reads an old replica (protocol reference, section
 * 10.1): lock, end the old view at the OSDs, bring the new replicas up to date, store the new set, unlock. The request is answered
 * before the change is done; clients poll the view's version. A change that can't be finished is undone under a new version,
 * because OSDs may have ended the old one. A change that dies with the MRC is undone when the file is next opened (core/changes.ts).
 */
export class Coordinator {
  private readonly options: CoordinatorOptions;
  private readonly running = new Set<Promise<unknown>>();

  constructor(options: CoordinatorOptions) {
    this.options = options;
  }

  /** Changes under way. */
  get runningCount(): number {
    return this.running.size;
  }

  /** Procedure 39. @returns the version to wait for. */
  async add(caller: Caller, file: FileRef, replica: ReplicaRecord): Promise<number> {
    const change = await this.begin(caller, file, (op, inode) => withReplica(op, file.volume, inode, replica));
    return change.to.version;
  }

  /** Procedure 41. @returns the version to wait for, and what deletes the removed replica's objects. */
  async remove(caller: Caller, file: FileRef, osd: string): Promise<{ version: number; creds: FileCredentials }> {
    let removed: ReplicaRecord | undefined;
    const change = await this.begin(caller, file, (op, inode) => {
      const without = withoutReplica(op, inode, osd);
      removed = without.removed;
      return without.xlocs;
    });
    const creds = await this.options.engine.run(caller, (op) => {
      const inode = op.tx.inode(file.volume.number, file.ino);
      const only: XlocRecord = { ...change.from, replicas: removed === undefined ? [] : [removed] };
      return deleteCredentials(op, file.volume, { ...inode, xlocs: only });
    });
    return { version: change.to.version, creds };
  }

  /** Procedure 48. */
  async setPolicy(caller: Caller, file: FileRef, policy: string): Promise<void> {
    await this.begin(caller, file, (op, inode) => withPolicy(op, inode, policy));
  }

  /** Procedure 54: chooses OSDs anew. Complete read-only replicas stay; a file without replication only while it is empty. */
  async reselect(caller: Caller, file: FileRef, coordinates: VivaldiCoordinates | undefined): Promise<number> {
    const change = await this.begin(caller, file, (op, inode) => {
      const xlocs = changeableXlocs(op, inode);
      if (xlocs.policy === '' && inode.size > 0) refuse('EPERM', 'A file without replication can not leave its OSDs');
      const stays = (replica: ReplicaRecord): boolean =>
        xlocs.policy === 'ronly' && (replica.flags & replicaFlags.complete) !== 0;
      const kept = xlocs.replicas.filter(stays);
      const leaving = xlocs.replicas.filter((replica) => !stays(replica));
      const fresh = suitableOsds(
        op,
        file.volume,
        { ...inode, xlocs: { ...xlocs, replicas: kept } },
        leaving.reduce((n, r) => n + r.osds.length, 0),
        coordinates,
      );
      const moved = leaving.map((replica) => ({ ...replica, osds: fresh.splice(0, replica.osds.length) }));
      if (moved.some((replica) => replica.osds.length < replica.striping.width))
        refuse('EIO', 'Not enough OSDs are usable');
      return { ...xlocs, version: xlocs.version + 1, replicas: [...kept, ...moved] };
    });
    return change.to.version;
  }

  /**
   * Moves what OSDs that are to go hold of a file to others, and waits for the end. Clients wait meanwhile.
   * @throws what was in the way; then the file is where it was.
   */
  async move(file: FileRef, leaving: ReadonlySet<string>): Promise<void> {
    const plan = (op: Operation, inode: Inode): XlocRecord => withOtherOsds(op, file.volume, inode, leaving);
    const { outcome } = await this.begin(systemCaller, file, plan, true);
    const problem = await outcome;
    if (problem !== undefined) throw problem;
  }

  /** Makes the replicas that a directory's `ronly` policy asks for, when a file is closed for the first time (section 8.4). */
  async replicateOnClose(file: FileRef): Promise<void> {
    const { engine, osds, logger } = this.options;
    const made = await engine.run(systemCaller, (op) => this.addReadOnlyReplicas(op, file));
    if (made === undefined) return;
    for (const replica of made.replicas.slice(1)) {
      for (const [objectNumber, osd] of replica.osds.entries()) {
        osds.touch(osd, made.creds, objectNumber).catch((error: unknown) => {
          // The replica fills itself when it is first read.
          logger.warn('Replica not started', { file: made.creds.xcap.fileId, osd, problem: describeError(error) });
        });
      }
    }
  }

  /** Resolves when no change is under way (tests, shutdown). */
  async settle(): Promise<void> {
    while (this.running.size > 0) await Promise.all(this.running);
  }

  private addReadOnlyReplicas(
    op: Operation,
    file: FileRef,
  ): { replicas: readonly ReplicaRecord[]; creds: FileCredentials } | undefined {
    const inode = op.tx.findInode(file.volume.number, file.ino);
    const first = inode?.xlocs?.replicas[0];
    if (inode?.xlocs === undefined || first === undefined || inode.xlocs.policy !== '') return undefined;
    const parent = op.tx.findInode(file.volume.number, inode.parent) ?? op.tx.inode(file.volume.number, 1);
    const volume = op.tx.volume(file.volume.number) ?? file.volume;
    const wanted = replicationOf(op.tx, volume, parent);
    if (wanted.policy !== 'ronly' || wanted.factor < 2) return undefined;
    const { striping } = first;
    const chosen = suitableOsds(op, volume, inode, striping.width * (wanted.factor - 1));
    const strategies = replicaFlags.random | replicaFlags.rarestFirst | replicaFlags.sequential | replicaFlags.prefetch;
    const strategy = (wanted.flags & strategies) === 0 ? replicaFlags.rarestFirst : wanted.flags & strategies;
    const replicas: ReplicaRecord[] = [{ ...first, flags: replicaFlags.full | replicaFlags.complete | strategy }];
    for (let at = 0; at + striping.width <= chosen.length; at += striping.width) {
      replicas.push({
        osds: chosen.slice(at, at + striping.width),
        flags: strategy | (wanted.flags & replicaFlags.full),
        striping,
      });
    }
    installXlocs(op, inode, { version: inode.xlocs.version + 1, policy: 'ronly', replicas });
    return { replicas, creds: serviceCredentials(op, file.volume, inode, inode.xlocs) };
  }

  private async begin(
    caller: Caller,
    file: FileRef,
    plan: (op: Operation, inode: Inode) => XlocRecord,
    isMove = false,
  ): Promise<Begun> {
    const change = await this.options.engine.run(caller, (op): Change => {
      const inode = op.tx.inode(file.volume.number, file.ino);
      const to = plan(op, inode);
      const from = changeableXlocs(op, inode);
      if (to !== from) lockForChange(op, inode);
      return { file, from, to, moves: isMove ? movesBetween(from, to) : [] };
    });
    if (change.to === change.from) return { ...change, outcome: Promise.resolve(undefined) };
    const outcome = this.carryOut(change).finally(() => this.running.delete(outcome));
    this.running.add(outcome);
    return { ...change, outcome };
  }

  private async carryOut(change: Change): Promise<Error | undefined> {
    const { logger, osds } = this.options;
    const id = `${change.file.volume.id}:${change.file.ino}`;
    try {
      const deletions = await this.deletionsOfCopies(change);
      const statuses = await this.endOldView(change);
      if (isRw(change.to)) await this.fillReplicas(change, statuses);
      else if (change.moves.length > 0) await this.copyMoved(change, statuses, deletions);
      for (const { to } of change.moves) await osds.sync(to, await this.credentials(change, change.to));
      // Who deleted the file meanwhile knew of its old OSDs only.
      if (!(await this.store(change, change.to))) for (const [osd, creds] of deletions) await osds.unlink(osd, creds);
      logger.info('Replicas changed', { file: id, version: change.to.version, replicas: headsOf(change.to) });
      return undefined;
    } catch (error) {
      logger.error('Replicas not changed', { file: id, version: change.to.version, err: error });
      await this.store(change, { ...change.from, version: change.to.version }).catch((cause: unknown) =>
        logger.error('Change of replicas not undone', { file: id, err: cause }),
      );
      return error instanceof Error ? error : new Error(describeError(error));
    }
  }

  /** Invalidates the old view at the replicas; returns what read/write replicas hold. */
  private async endOldView(change: Change): Promise<Map<string, ReplicaStatus>> {
    const { osds, clock, leaseTimeoutMs } = this.options;
    const { from, moves } = change;
    const creds = await this.credentials(change, from);
    const isCopied = !isRw(from) && moves.length > 0;
    const heads = isCopied ? osdsToInvalidate(from, moves) : headsOf(from);
    const count = heads.length;
    const needed = from.policy === 'WqRq' ? majority(count) : from.policy === 'WaR1' || isCopied ? count : 1;
    const statuses = new Map<string, ReplicaStatus>();
    const leases: LeaseState[] = [];
    await this.askEnough('invalidate', heads, needed, async (osd) => {
      const answer = await osds.invalidate(osd, creds);
      leases.push(answer.leaseState);
      if (answer.replicaStatus !== undefined) statuses.set(osd, answer.replicaStatus);
    });
    if (leases.includes(LeaseState.PRIMARY) || leases.includes(LeaseState.BACKUP)) await clock.sleep(leaseTimeoutMs);
    return statuses;
  }

  /** Copies what leaves an OSD of a file that is not replicated as it is written. */
  private async copyMoved(
    change: Change,
    statuses: ReadonlyMap<string, ReplicaStatus>,
    deletions: ReadonlyMap<string, FileCredentials>,
  ): Promise<void> {
    const { osds, clock, pollMs } = this.options;
    const credentials = async (xlocs: XlocRecord): Promise<FileCredentials> => this.credentials(change, xlocs);
    await copyStripes({ osds, clock, pollMs, credentials, deletions }, change.from, change.moves, statuses);
  }

  /** Brings enough replicas of the new set to the authoritative state. */
  private async fillReplicas(change: Change, statuses: ReadonlyMap<string, ReplicaStatus>): Promise<void> {
    const { engine } = this.options;
    const { file, from, to } = change;
    if (statuses.size === 0) return; // nothing was replicated before: the only replica is the truth
    const state = authoritativeState(statuses);
    const behind = headsOf(to).filter((osd) => !isCurrent(state, statuses.get(osd)));
    const current = to.replicas.length - behind.length;
    const enough = to.policy === 'WaR1' ? to.replicas.length : majority(to.replicas.length);
    const added = to.replicas.filter((replica) => !headsOf(from).includes(replica.osds[0] ?? ''));
    const creds = await engine.run(systemCaller, (op) =>
      serviceCredentials(op, file.volume, op.tx.inode(file.volume.number, file.ino), {
        ...from,
        replicas: [...from.replicas, ...added],
      }),
    );
    const needed = Math.max(0, enough - current);
    await this.askEnough('fill', behind, needed, (osd) => this.fill(osd, creds, state));
  }

  private async fill(osd: string, creds: FileCredentials, state: AuthoritativeReplicaState): Promise<void> {
    const { osds, clock, pollMs, triesMax } = this.options;
    let isFilled = await osds.install(osd, creds, state);
    for (let tries = 0; !isFilled; tries++) {
      if (tries >= triesMax * 20) throw new Error(`Replica on ${osd} was not filled in time`);
      await clock.sleep(pollMs);
      isFilled = await osds.isInstalled(osd, creds, state);
    }
  }

  /** Asks all of `targets` at once, repeating failures, until all answered or the tries are over. @throws when fewer than `needed` did. */
  private async askEnough(
    what: string,
    targets: readonly string[],
    needed: number,
    ask: (osd: string) => Promise<void>,
  ): Promise<void> {
    const { clock, pollMs, triesMax } = this.options;
    let left = [...targets];
    let problem: unknown;
    for (let tries = 0; tries < triesMax && left.length > 0; tries++) {
      if (tries > 0) await clock.sleep(pollMs);
      const results = await Promise.allSettled(left.map((osd) => ask(osd)));
      for (const result of results) if (result.status === 'rejected') problem = result.reason;
      left = left.filter((_, at) => results[at]?.status === 'rejected');
      // One full round is always made; more only while too few have answered.
      if (targets.length - left.length >= needed) return;
    }
    if (targets.length - left.length < needed) {
      throw new PosixError(
        'EIO',
        `Only ${targets.length - left.length} of ${needed} OSDs answered ${what}: ${describeError(problem)}`,
      );
    }
  }

  /** @returns whether the file is still there. */
  private async store(change: Change, xlocs: XlocRecord): Promise<boolean> {
    return this.options.engine.run(systemCaller, (op) => {
      const inode = op.tx.findInode(change.file.volume.number, change.file.ino);
      if (inode === undefined) return false;
      installXlocs(op, inode, xlocs);
      unlockAfterChange(op, inode);
      if (inode.nlink === 0 && change.moves.length > 0) eraseLater(op, inode);
      return true;
    });
  }

  private async credentials({ file }: Change, xlocs: XlocRecord): Promise<FileCredentials> {
    return this.options.engine.run(systemCaller, (op) =>
      serviceCredentials(op, file.volume, op.tx.inode(file.volume.number, file.ino), xlocs),
    );
  }

  /** What deletes the copies that a move makes, by OSD; each OSD alone, for the head of a stripe passes deletions on. */
  private async deletionsOfCopies({ file, from, moves }: Change): Promise<Map<string, FileCredentials>> {
    return this.options.engine.run(systemCaller, (op) => {
      const inode = op.tx.inode(file.volume.number, file.ino);
      return new Map(
        moves.map(({ to, replica }) => {
          const alone = { ...replica, osds: [to], striping: { ...replica.striping, width: 1 } };
          return [to, deleteCredentials(op, file.volume, { ...inode, xlocs: { ...from, replicas: [alone] } })];
        }),
      );
    });
  }
}

/** How long an OSD may take to copy what it is given, seconds. */
const copyTimeoutS = 3_600;

/** Credentials of the MRC itself for a file and a replica set; they last as long as a copy may take. */
function serviceCredentials(op: Operation, volume: Volume, inode: Inode, xlocs: XlocRecord): FileCredentials {
  const cap = issueCapability(op, volume, inode, { accessMode: 0, truncateEpoch: inode.epoch });
  const expireTimeS = Math.floor(op.tx.nowMs / 1000) + copyTimeoutS;
  return { xcap: op.env.signer.sign({ ...cap, expireTimeS }), xlocs: signedXlocs(op, volume, inode, xlocs) };
}
