import { z } from 'zod';
import type { Striping } from './records.ts';

/** AccessControlPolicyType of the wire. */
export const accessPolicies = { null: 1, posix: 2, volume: 3 } as const;

const striping = z.object({ stripeSizeKb: z.number().int().min(1), width: z.number().int().min(1) });

/** Replica update policies: none, read-only replicas, quorum, write-all-read-one. */
export const replicaPolicies = ['', 'ronly', 'WqRq', 'WaR1'] as const;
export type ReplicaPolicy = (typeof replicaPolicies)[number];

/** How many replicas of which kind new files get. `flags` are REPL_FLAG bits for `ronly`. */
export const replicationSchema = z.object({
  policy: z.enum(replicaPolicies),
  factor: z.number().int().min(1).max(64),
  flags: z.number().int().min(0),
});
/** Default replication of a volume or directory. */
export type Replication = z.infer<typeof replicationSchema>;

/**
 * Settings of a volume, stored as JSON: they change rarely and gain fields over time. A snapshot is a volume of its
 * own with `snapshotOf` set; it is found as `<volume>@<name>`.
 */
export const volumeSchema = z.object({
  number: z.number().int().min(1),
  id: z.string().min(1),
  name: z.string().min(1),
  createdMs: z.number(),
  accessPolicy: z.union([z.literal(1), z.literal(2), z.literal(3)]),
  striping,
  replication: replicationSchema.default({ policy: '', factor: 1, flags: 0 }),
  osdPolicies: z.array(z.number().int()).default([1000, 3002]),
  replicaPolicies: z.array(z.number().int()).default([]),
  /** Attributes of selection policies: `<policy id>.<key>` or `<key>` for all. */
  policyAttributes: z.record(z.string(), z.string()).default({}),
  /** `volattr.*`: shown at the DIR as `attr.*`. */
  attributes: z.record(z.string(), z.string()).default({}),
  snapshotsEnabled: z.boolean().default(false),
  /** Of a snapshot: the volume's number, the snapshot's name, when it was taken, and whether it is whole. */
  snapshotOf: z
    .object({
      volume: z.number().int(),
      name: z.string(),
      timeMs: z.number(),
      rootIno: z.number(),
      isComplete: z.boolean(),
    })
    .optional(),
  quotaBytes: z.number().min(0).default(0),
  voucherBytes: z
    .number()
    .min(1)
    .default(10 * 1024 * 1024),
  defaultUserQuotaBytes: z.number().min(0).default(0),
  defaultGroupQuotaBytes: z.number().min(0).default(0),
  tracing: z.object({ enabled: z.boolean(), policy: z.string(), config: z.string() }).optional(),
});
/** See `volumeSchema`. */
export type Volume = Readonly<z.infer<typeof volumeSchema>>;

/** A snapshot of a volume. */
export type Snapshot = Volume & { readonly snapshotOf: NonNullable<Volume['snapshotOf']> };

/** Whether a volume is a snapshot of another one. */
export function isSnapshot(volume: Volume): volume is Snapshot {
  return volume.snapshotOf !== undefined;
}

/** Number of every volume's root directory. */
export const rootIno = 1;

export function encodeVolume(volume: Volume): Buffer {
  return Buffer.from(JSON.stringify(volume));
}

export function decodeVolume(bytes: Uint8Array): Volume {
  return volumeSchema.parse(JSON.parse(Buffer.from(bytes).toString()));
}

/** Object size in bytes. */
export function stripeBytes(policy: Striping): number {
  return policy.stripeSizeKb * 1024;
}

/** Java's `String.hashCode`, signed 32 bit: Stat.dev and Flease sender ids are made of it. */
export function javaHashCode(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(31, hash) + text.charCodeAt(i)) | 0;
  return hash;
}
