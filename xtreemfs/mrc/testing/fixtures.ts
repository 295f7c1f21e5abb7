import { VirtualClock } from '#common/clock.ts';
import { SeededRandom } from '#common/random.ts';
import { CapabilityKeys } from '../../service/capability.ts';
import type { Caller } from '../core/access.ts';
import { bucketOf } from '../core/keys.ts';
import type { Volume } from '../core/volume.ts';
import { makeVolume } from '../core/volumes.ts';
import type { NewVolume } from '../core/volumes.ts';
import { Engine } from '../engine.ts';
import { DatacenterMap } from '../placement/datacenter-map.ts';
import type { Osd } from '../placement/osd-catalogue.ts';
import { OsdCatalogue } from '../placement/osd-catalogue.ts';
import { ChainPlacement } from '../placement/placement.ts';
import type { KvStore } from '../store/kv.ts';
import { MemoryStore } from '../store/memory-store.ts';

/** A caller like any other. */
export function aCaller(user = 'ann', groups: readonly string[] = ['staff'], isSuper = false): Caller {
  return { user, groups, isSuper, client: '10.0.0.1' };
}

/** The superuser of tests. */
export const root: Caller = aCaller('root', ['root'], true);

/** An OSD with space that was heard of at `lastUpdatedS`. */
export function anOsd(uuid: string, overrides: Partial<Osd> = {}): Osd {
  return {
    uuid,
    address: `${uuid}.example.org`,
    lastUpdatedS: Date.UTC(2026, 0, 1) / 1000,
    totalBytes: 2 ** 40,
    freeBytes: 2 ** 39,
    usableBytes: 2 ** 39,
    status: 0,
    health: 0,
    coordinates: undefined,
    config: new Map(),
    ...overrides,
  };
}

/** A small metadata service in memory. */
export interface World {
  readonly engine: Engine;
  readonly clock: VirtualClock;
  readonly osds: OsdCatalogue;
  readonly keys: CapabilityKeys;
}

/** An engine over a store (in memory unless given) with three OSDs. */
export function aWorld(options: { store?: KvStore; clock?: VirtualClock; capabilityTimeoutS?: number } = {}): World {
  const clock = options.clock ?? new VirtualClock();
  const osds = new OsdCatalogue();
  osds.replace([anOsd('osd1'), anOsd('osd2'), anOsd('osd3')]);
  const random = new SeededRandom(1);
  const keys = new CapabilityKeys({ secrets: ['a secret for tests only'] });
  const placement = new ChainPlacement({
    catalogue: osds,
    random,
    nowMs: () => clock.now(),
    datacenters: DatacenterMap.empty,
  });
  const engine = new Engine({
    store: options.store ?? new MemoryStore(bucketOf),
    clock,
    random,
    placement,
    signer: keys,
    url: 'pbrpc://mrc.example.org:32636',
    capabilityTimeoutS: options.capabilityTimeoutS ?? 600,
    renewsExpired: false,
    noAtime: true,
  });
  return { engine, clock, osds, keys };
}

/** Makes a volume, `vol` unless told otherwise, open to everyone. */
export async function makeTestVolume(engine: Engine, overrides: Partial<NewVolume> = {}): Promise<Volume> {
  return engine.run(root, (op) =>
    makeVolume(op.tx, op.caller, {
      id: '6a6c3e8e-1c0b-4f3a-9d55-0a1b2c3d4e5f',
      name: 'vol',
      number: engine.nextVolumeNumber(op.tx),
      accessPolicy: 2,
      striping: { stripeSizeKb: 128, width: 1 },
      mode: 0o777,
      ownerUser: 'root',
      ownerGroup: 'root',
      attributes: {},
      quotaBytes: 0,
      ...overrides,
    }),
  );
}
