import type { MethodDefinition } from '@grpc/grpc-js';
import { fromJSON, type Options } from '@grpc/proto-loader';
import type { INamespace } from 'protobufjs';
import { schema } from './generated/schema.ts';
import type * as wire from './wire.ts';

const options: Options = { longs: Number, enums: String, defaults: true, objects: true, arrays: true };
const definitions = fromJSON(schema as INamespace, options);

/** `csi.v1.Identity` */
export interface IdentityMethods {
  readonly GetPluginInfo: MethodDefinition<wire.Empty, wire.GetPluginInfoResponse>;
  readonly GetPluginCapabilities: MethodDefinition<wire.Empty, wire.GetPluginCapabilitiesResponse>;
  readonly Probe: MethodDefinition<wire.Empty, wire.ProbeResponse>;
}

/** `csi.v1.Controller`, as far as this driver has it. */
export interface ControllerMethods {
  readonly CreateVolume: MethodDefinition<wire.CreateVolumeRequest, wire.CreateVolumeResponse>;
  readonly DeleteVolume: MethodDefinition<wire.DeleteVolumeRequest, wire.Empty>;
  readonly ValidateVolumeCapabilities: MethodDefinition<
    wire.ValidateVolumeCapabilitiesRequest,
    wire.ValidateVolumeCapabilitiesResponse
  >;
  readonly ControllerGetCapabilities: MethodDefinition<wire.Empty, wire.CapabilitiesResponse>;
  readonly ControllerExpandVolume: MethodDefinition<
    wire.ControllerExpandVolumeRequest,
    wire.ControllerExpandVolumeResponse
  >;
  readonly CreateSnapshot: MethodDefinition<wire.CreateSnapshotRequest, wire.CreateSnapshotResponse>;
  readonly DeleteSnapshot: MethodDefinition<wire.DeleteSnapshotRequest, wire.Empty>;
  readonly ListSnapshots: MethodDefinition<wire.ListSnapshotsRequest, wire.ListSnapshotsResponse>;
}

/** `csi.v1.Node` */
export interface NodeMethods {
  readonly NodeStageVolume: MethodDefinition<wire.NodeStageVolumeRequest, wire.Empty>;
  readonly NodeUnstageVolume: MethodDefinition<wire.NodeUnstageVolumeRequest, wire.Empty>;
  readonly NodePublishVolume: MethodDefinition<wire.NodePublishVolumeRequest, wire.Empty>;
  readonly NodeUnpublishVolume: MethodDefinition<wire.NodeUnpublishVolumeRequest, wire.Empty>;
  readonly NodeGetVolumeStats: MethodDefinition<wire.NodeGetVolumeStatsRequest, wire.NodeGetVolumeStatsResponse>;
  readonly NodeExpandVolume: MethodDefinition<wire.NodeExpandVolumeRequest, wire.NodeExpandVolumeResponse>;
  readonly NodeGetCapabilities: MethodDefinition<wire.Empty, wire.CapabilitiesResponse>;
  readonly NodeGetInfo: MethodDefinition<wire.Empty, wire.NodeGetInfoResponse>;
}

/** `pluginregistration.Registration` */
export interface RegistrationMethods {
  readonly GetInfo: MethodDefinition<wire.Empty, wire.PluginInfo>;
  readonly NotifyRegistrationStatus: MethodDefinition<wire.RegistrationStatus, wire.Empty>;
}

export const identityMethods = definitions['csi.v1.Identity'] as unknown as IdentityMethods;
export const controllerMethods = definitions['csi.v1.Controller'] as unknown as ControllerMethods;
export const nodeMethods = definitions['csi.v1.Node'] as unknown as NodeMethods;
export const registrationMethods = definitions['pluginregistration.Registration'] as unknown as RegistrationMethods;
