import { status } from '@grpc/grpc-js';
import { z } from 'zod';
import type { VolumeSpec } from '#crds/volume.ts';
import { CsiError } from './errors.ts';

const count = (most: number): z.ZodType<number> => z.coerce.number().int('use a whole number').min(1).max(most);

/** Parameters of a StorageClass, as its `parameters` and as external-provisioner adds them (`--extra-create-metadata`). */
const schema = z.strictObject({
  'csi.storage.k8s.io/pvc/name': z.string().optional(),
  'csi.storage.k8s.io/pvc/namespace': z.string(
    'is missing: external-provisioner must run with --extra-create-metadata',
  ),
  'csi.storage.k8s.io/pv/name': z.string().optional(),
  /** NAMESPACE/NAME of the FileSystem. */
  fileSystem: z
    .string()
    .regex(/^[a-z0-9-]+\/[a-z0-9-]+$/, 'write NAMESPACE/NAME')
    .optional(),
  stripeWidth: count(64).optional(),
  stripeSizeKiB: count(65_536).optional(),
  replicationPolicy: z.enum(['None', 'ReadOnly', 'Quorum', 'All']).optional(),
  replicas: count(16).optional(),
  mode: z
    .string()
    .regex(/^[0-7]{3,4}$/, 'use three or four octal digits such as 0770')
    .optional(),
});

/** What external-snapshotter adds (`--extra-create-metadata`); a VolumeSnapshotClass has no parameters of its own. */
const snapshotSchema = z.strictObject({
  'csi.storage.k8s.io/volumesnapshot/name': z.string(
    'is missing: external-snapshotter must run with --extra-create-metadata',
  ),
  'csi.storage.k8s.io/volumesnapshot/namespace': z.string(
    'is missing: external-snapshotter must run with --extra-create-metadata',
  ),
  'csi.storage.k8s.io/volumesnapshotcontent/name': z.string().optional(),
});

/** What a StorageClass and a claim say of a volume. */
export interface VolumeParameters {
  /** Of the claim; the Volume is made in it. */
  readonly namespace: string;
  /** Of the claim; undefined where nobody tells. */
  readonly claimName: string | undefined;
  readonly spec: Partial<Pick<VolumeSpec, 'fileSystem' | 'striping' | 'replication' | 'mode'>>;
}

/** @throws {CsiError} INVALID_ARGUMENT naming the parameter. */
export function readParameters(given: Readonly<Record<string, string>>): VolumeParameters {
  const data = parsed('StorageClass', schema, given);
  const { fileSystem, stripeWidth, stripeSizeKiB, replicationPolicy, replicas, mode } = data;
  const [namespace, name] = fileSystem?.split('/') ?? [];
  const isStriped = stripeWidth !== undefined || stripeSizeKiB !== undefined;
  return {
    namespace: data['csi.storage.k8s.io/pvc/namespace'],
    claimName: data['csi.storage.k8s.io/pvc/name'],
    spec: {
      ...(namespace === undefined || name === undefined ? {} : { fileSystem: { namespace, name } }),
      ...(isStriped ? { striping: { width: stripeWidth ?? 1, stripeSizeKiB: stripeSizeKiB ?? 128 } } : {}),
      ...(replicationPolicy === undefined
        ? {}
        : { replication: { policy: replicationPolicy, replicas: replicas ?? (replicationPolicy === 'None' ? 1 : 3) } }),
      ...(mode === undefined ? {} : { mode }),
    },
  };
}

/** The VolumeSnapshot that a snapshot is for. @throws {CsiError} INVALID_ARGUMENT naming the parameter. */
export function readSnapshotParameters(given: Readonly<Record<string, string>>): { namespace: string; name: string } {
  const data = parsed('VolumeSnapshotClass', snapshotSchema, given);
  return {
    namespace: data['csi.storage.k8s.io/volumesnapshot/namespace'],
    name: data['csi.storage.k8s.io/volumesnapshot/name'],
  };
}

function parsed<T>(kind: string, shape: z.ZodType<T>, given: Readonly<Record<string, string>>): T {
  const result = shape.safeParse(given);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const name = issue?.code === 'unrecognized_keys' ? issue.keys.join(', ') : issue?.path.join('.');
  const problem = issue?.message ?? 'is not valid';
  throw new CsiError(status.INVALID_ARGUMENT, `parameter ${name ?? ''} of the ${kind}: ${problem}`);
}
