import { VirtualClock, type Clock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { StripingPolicyType, xCapCodec } from '#proto/generated/xtreemfs/global-types.ts';
import {
  osdProcedures,
  type RwrAuthStateRequest,
  type RwrFetchRequest,
  type RwrTruncateRequest,
  type RwrUpdateRequest,
} from '#proto/generated/xtreemfs/osd.ts';
import type { Procedure } from '#proto/wire.ts';
import { ioError } from '../../rpc/errors.ts';
import { Flease } from '../flease.ts';
import { decodeFlease, encodeFlease } from '../flease-message.ts';
import type { FleaseTimers } from '../flease-proposer.ts';
import { plainObjectData } from '../replica-group.ts';
import { ReadWriteReplication } from '../read-write-replication.ts';
import type { ReplicatedFile } from '../replica-store.ts';
import { MemoryReplicaStore, StoredFile } from './memory-replica-store.ts';

/** One OSD of the simulated cluster. What is not marked as surviving is lost in a crash. */
export interface ReplicaNode {
  readonly uuid: string;
  /** Survives. */
  readonly stored: StoredFile;
  /** Survives. */
  epoch: number;
  readonly offsetMs: number;
  isCutOff: boolean;
  running: { readonly flease: Flease; readonly replication: ReadWriteReplication<ReplicatedFile> } | undefined;
}

const objectBytes = 1024;
const callTimeoutMs = 1_000;

/** OSDs that hold the replicas of one file, on a virtual network and clock with one seed. */
export class ReplicaCluster {
  readonly clock = new VirtualClock(1_700_000_000_000);
  readonly random: SeededRandom;
  readonly nodes: ReplicaNode[];
  readonly timers: FleaseTimers = { leaseMs: 4_000, dMaxMs: 300, messageTimeoutMs: 250, retriesMax: 3 };
  readonly policy: 'WqRq' | 'WaR1';
  lossRate = 0;
  delayMaxMs = 10;

  constructor(seed: number, count: number, policy: 'WqRq' | 'WaR1') {
    this.random = new SeededRandom(seed);
    this.policy = policy;
    this.nodes = Array.from({ length: count }, (_, index) => ({
      uuid: `osd-${index}`,
      stored: new StoredFile(),
      epoch: 0,
      offsetMs: this.random.int(250),
      isCutOff: false,
      running: undefined,
    }));
    for (const node of this.nodes) this.start(node, false);
  }

  /** The file with a capability of this truncate epoch. */
  file(truncateEpoch = 0): ReplicatedFile {
    const stripingPolicy = { type: StripingPolicyType.RAID0, stripeSize: 1, width: 1 };
    const replicas = this.nodes.map(({ uuid }) => ({ osdUuids: [uuid], replicationFlags: 0, stripingPolicy }));
    const xlocs = { readOnlyFileSize: 0, replicas, replicaUpdatePolicy: this.policy, version: 0 };
    return { fileId: 'v:1', xcap: { ...xCapCodec.decode(Buffer.alloc(0)), fileId: 'v:1', truncateEpoch }, xlocs };
  }

  start(node: ReplicaNode, mustWait: boolean): void {
    const isAlive = (): boolean => node.running?.flease === flease;
    const cells = {
      loadEpoch: async () => node.epoch,
      saveEpoch: async (_: string, epoch: number) => {
        await this.clock.sleep(this.random.int(5));
        if (isAlive()) node.epoch = Math.max(node.epoch, epoch);
      },
      loadView: async () => 0,
    };
    const flease: Flease = new Flease({
      identity: node.uuid,
      clock: mortal(this.clock, isAlive),
      globalNow: () => this.clock.now() + node.offsetMs,
      random: this.random.fork(),
      logger: silentLogger,
      timers: this.timers,
      store: cells,
      send: (to, message) => {
        const bytes = encodeFlease(message);
        this.transmit(node, this.node(to), () => {
          const copy = decodeFlease(bytes);
          if (copy !== undefined) this.node(to).running?.flease.receive(node.uuid, copy);
        });
      },
      mustWait,
    });
    const store = new MemoryReplicaStore(node.stored, objectBytes, async () => {
      await this.clock.sleep(this.random.int(4));
      if (!isAlive()) await new Promise(() => undefined);
    });
    const peers = {
      call: async <Request, Response>(
        to: string,
        procedure: Procedure<Request, Response>,
        request: Request,
        data?: Buffer,
      ) =>
        this.call(node, this.node(to), () =>
          this.serve(this.node(to), procedure.procId, request, data ?? Buffer.alloc(0)),
        ) as Promise<{
          response: Response;
          data: Buffer;
        }>,
    };
    const clock = mortal(this.clock, isAlive);
    const shared = { osdUuid: node.uuid, clock, logger: silentLogger, flease, cells, store, peers, handsOver: true };
    node.running = { flease, replication: new ReadWriteReplication(shared) };
  }

  /** A call over the network: lost ones fail after a while, and may have been carried out. */
  async call<T>(from: ReplicaNode | undefined, to: ReplicaNode, task: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.clock.after(callTimeoutMs, () => reject(ioError(`${to.uuid} does not answer`)));
      this.transmit(from, to, () => {
        if (to.running === undefined) return;
        const { running } = to;
        const answer = (finish: () => void): void => {
          if (to.running === running) this.transmit(to, from, finish);
        };
        task().then(
          (value) => answer(() => resolve(value)),
          (error: unknown) => answer(() => reject(error as Error)),
        );
      });
    });
  }

  node(uuid: string): ReplicaNode {
    const node = this.nodes.find((candidate) => candidate.uuid === uuid);
    if (node === undefined) throw new TypeError(`There is no OSD ${uuid}`);
    return node;
  }

  private transmit(from: ReplicaNode | undefined, to: ReplicaNode | undefined, arrive: () => void): void {
    if (this.random.next() < this.lossRate) return;
    this.clock.after(this.random.int(this.delayMaxMs), () => {
      if (from?.isCutOff !== true && to?.isCutOff !== true) arrive();
    });
  }

  private async serve(
    to: ReplicaNode,
    procId: number,
    request: unknown,
    data: Buffer,
  ): Promise<{ response: unknown; data: Buffer }> {
    const replication = to.running?.replication;
    if (replication === undefined) throw ioError(`${to.uuid} is down`);
    const file = this.file();
    const empty = { response: {}, data: Buffer.alloc(0) };
    switch (procId) {
      case osdProcedures.rwrUpdate.procId:
        await replication.takeUpdate(file, request as RwrUpdateRequest, data);
        return empty;
      case osdProcedures.rwrTruncate.procId: {
        const { xcap } = (request as RwrTruncateRequest).fileCredentials;
        await replication.takeTruncate({ ...file, xcap }, request as RwrTruncateRequest);
        return empty;
      }
      case osdProcedures.rwrStatus.procId:
        return { ...empty, response: await replication.status(file) };
      case osdProcedures.rwrFetch.procId:
        return { response: plainObjectData, data: await replication.fetch(file, request as RwrFetchRequest) };
      case osdProcedures.rwrAuthState.procId:
        await replication.takeState(file, (request as RwrAuthStateRequest).state);
        return empty;
      default:
        throw new TypeError(`Procedure ${procId} is not simulated`);
    }
  }
}

/** A clock whose timers and sleeps never end for a node that has crashed. */
function mortal(clock: Clock, isAlive: () => boolean): Clock {
  return {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    after: (delayMs, fn) =>
      clock.after(delayMs, () => {
        if (isAlive()) fn();
      }),
    sleep: async (delayMs, signal) => {
      await clock.sleep(delayMs, signal);
      if (!isAlive()) await new Promise(() => undefined);
    },
  };
}
