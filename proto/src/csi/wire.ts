/**
 * The messages of proto/csi as they come from and go to the codec: 64-bit numbers as numbers, enumerations as words, absent
 * messages null or undefined, defaults filled in. What they mean is said in the CSI specification.
 */

export type Empty = Record<string, never>;
type Texts = Record<string, string>;

export interface GetPluginInfoResponse {
  name: string;
  vendorVersion: string;
}

export interface GetPluginCapabilitiesResponse {
  capabilities: { service?: { type: 'CONTROLLER_SERVICE' }; volumeExpansion?: { type: 'ONLINE' } }[];
}

export interface ProbeResponse {
  ready: { value: boolean };
}

export interface VolumeCapability {
  block?: Empty | null;
  mount?: { fsType: string; mountFlags: string[]; volumeMountGroup: string } | null;
  accessMode?: { mode: string } | null;
}

export interface CapacityRange {
  requiredBytes: number;
  limitBytes: number;
}

export interface VolumeContentSource {
  snapshot?: { snapshotId: string } | null;
  volume?: { volumeId: string } | null;
}

export interface CreateVolumeRequest {
  name: string;
  capacityRange?: CapacityRange | null;
  volumeCapabilities: VolumeCapability[];
  parameters: Texts;
  volumeContentSource?: VolumeContentSource | null;
}

export interface CreateVolumeResponse {
  volume: { volumeId: string; capacityBytes: number; volumeContext: Texts; contentSource?: VolumeContentSource };
}

export interface CreateSnapshotRequest {
  sourceVolumeId: string;
  name: string;
  parameters: Texts;
}

export interface Snapshot {
  sizeBytes: number;
  snapshotId: string;
  sourceVolumeId: string;
  creationTime: { seconds: number; nanos: number };
  readyToUse: boolean;
}

export interface CreateSnapshotResponse {
  snapshot: Snapshot;
}

export interface DeleteSnapshotRequest {
  snapshotId: string;
}

export interface ListSnapshotsRequest {
  maxEntries: number;
  startingToken: string;
  sourceVolumeId: string;
  snapshotId: string;
}

export interface ListSnapshotsResponse {
  entries: { snapshot: Snapshot }[];
  nextToken: string;
}

export interface DeleteVolumeRequest {
  volumeId: string;
}

export interface ValidateVolumeCapabilitiesRequest {
  volumeId: string;
  volumeContext: Texts;
  volumeCapabilities: VolumeCapability[];
  parameters: Texts;
}

export interface ValidateVolumeCapabilitiesResponse {
  confirmed?: Pick<ValidateVolumeCapabilitiesRequest, 'volumeContext' | 'volumeCapabilities' | 'parameters'>;
  message: string;
}

/** Of the Controller and of the Node service. */
export interface CapabilitiesResponse {
  capabilities: { rpc: { type: string } }[];
}

export interface ControllerExpandVolumeRequest {
  volumeId: string;
  capacityRange?: CapacityRange | null;
}

export interface ControllerExpandVolumeResponse {
  capacityBytes: number;
  nodeExpansionRequired: boolean;
}

export interface NodeStageVolumeRequest {
  volumeId: string;
  stagingTargetPath: string;
  volumeCapability?: VolumeCapability | null;
  volumeContext: Texts;
}

export interface NodeUnstageVolumeRequest {
  volumeId: string;
  stagingTargetPath: string;
}

export interface NodePublishVolumeRequest {
  volumeId: string;
  stagingTargetPath: string;
  targetPath: string;
  volumeCapability?: VolumeCapability | null;
  readonly: boolean;
  volumeContext: Texts;
}

export interface NodeUnpublishVolumeRequest {
  volumeId: string;
  targetPath: string;
}

export interface NodeGetVolumeStatsRequest {
  volumeId: string;
  volumePath: string;
}

export interface NodeGetVolumeStatsResponse {
  usage: { available: number; total: number; used: number; unit: 'BYTES' | 'INODES' }[];
  volumeCondition: { abnormal: boolean; message: string };
}

export interface NodeExpandVolumeRequest {
  volumeId: string;
  volumePath: string;
}

export interface NodeExpandVolumeResponse {
  capacityBytes: number;
}

export interface NodeGetInfoResponse {
  nodeId: string;
  maxVolumesPerNode: number;
}

export interface PluginInfo {
  type: string;
  name: string;
  endpoint: string;
  supportedVersions: string[];
}

export interface RegistrationStatus {
  pluginRegistered: boolean;
  error: string;
}
