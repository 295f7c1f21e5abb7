import type { MethodDefinition } from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';
import type { INamespace } from 'protobufjs';
import { schema } from './generated/schema.ts';

const definitions = fromJSON(schema as INamespace, { longs: Number, enums: String, defaults: true, oneofs: true });

/** See proto/site/peer.proto. */
export interface HelloRequest {
  site: string;
  protocols: number[];
}

/** See proto/site/peer.proto. */
export interface HelloResponse {
  site: string;
  protocols: number[];
  version: string;
  nodes: number;
  nodesReady: number;
}

/** See proto/site/peer.proto. */
export interface FollowRequest {
  virtualOrganization: string;
}

/** See proto/site/peer.proto. */
export interface RemindRequest {
  virtualOrganization: string;
  state: string;
  ids: number[];
}

/** See proto/site/peer.proto. */
export interface FollowEvent {
  kind: 'WHOLE' | 'ORGANIZATION' | 'MEMBER' | 'REMOVED' | 'SLICE' | 'VOLUME' | 'VOLUME_REMOVED';
  name: string;
  json: string;
}

/** See proto/site/peer.proto; so are all that follow. */
export interface HoldRequest {
  node: string;
  hold: Uint8Array;
}

export interface HoldResponse {
  granted: boolean;
  ttlMs: number;
  reason: string;
}

export interface ReleaseRequest {
  node: string;
  id: string;
}

export interface ClaimsRequest {
  ids: string[];
  heardMs: number;
}

export interface ClaimsResponse {
  ids: string[];
  nowMs: number;
}

export interface PutRequest {
  virtualOrganization: string;
  job: string;
  part: string;
  revision: number;
  spec: string;
  heardMs: number;
}

export interface PartState {
  part: string;
  isKnown: boolean;
  isFenced: boolean;
  runs: string[];
  live: string[];
  tasks: string;
  refusal: string;
  settledRevision: number;
  digest: string;
}

export interface SyncRequest {
  heardMs: number;
  parts: { part: string; digest: string }[];
}

export interface SyncResponse {
  parts: PartState[];
  nowMs: number;
  isWhole: boolean;
}

export interface LogsResponse {
  logs: { index: number; run: string; isFailed: boolean; text: string }[];
}

export interface ConnectOpen {
  virtualOrganization: string;
  part: string;
  run: string;
  index: number;
  issuer: string;
  subject: string;
  kind: 'LOG' | 'EXEC' | 'ATTACH';
  command: string[];
  stdin: boolean;
  tty: boolean;
  follow: boolean;
  tailLines: number;
  timestamps: boolean;
}

/** One of these is there. */
export interface ConnectRequest {
  open?: ConnectOpen;
  stdin?: Uint8Array;
  stdinEnd?: boolean;
  resize?: { columns: number; rows: number };
}

/** One of these is there. */
export interface ConnectResponse {
  stdout?: Uint8Array;
  stderr?: Uint8Array;
  end?: { exitStatus: number };
}

export interface RelayOpen {
  virtualOrganization: string;
  volume: string;
  server: string;
}

/** One of these is there. */
export interface RelayRequest {
  open?: RelayOpen;
  data?: Uint8Array;
}

/** One of these is there. */
export interface RelayResponse {
  opened?: boolean;
  data?: Uint8Array;
}

/** Methods by which nodes of one site reach files of another. */
export interface StorageMethods {
  readonly Relay: MethodDefinition<RelayRequest, RelayResponse>;
}

/** Methods by which one site has work done at another. */
export interface WorkMethods {
  readonly Hold: MethodDefinition<HoldRequest, HoldResponse>;
  readonly Release: MethodDefinition<ReleaseRequest, Record<string, never>>;
  readonly Confirm: MethodDefinition<ReleaseRequest, Record<string, never>>;
  readonly Claims: MethodDefinition<ClaimsRequest, ClaimsResponse>;
  readonly Put: MethodDefinition<PutRequest, PartState>;
  readonly PutWithVolumes: MethodDefinition<PutRequest, PartState>;
  readonly Sync: MethodDefinition<SyncRequest, SyncResponse>;
  readonly Logs: MethodDefinition<{ part: string }, LogsResponse>;
  readonly Connect: MethodDefinition<ConnectRequest, ConnectResponse>;
}

/** Methods that gateways speak among themselves. */
export interface PeerMethods {
  readonly Hello: MethodDefinition<HelloRequest, HelloResponse>;
  readonly Follow: MethodDefinition<FollowRequest, FollowEvent>;
  readonly Remind: MethodDefinition<RemindRequest, Record<string, never>>;
}

/** `xtreemos.site.v1.Peer` */
export const peerMethods = definitions['xtreemos.site.v1.Peer'] as unknown as PeerMethods;
/** `xtreemos.site.v1.Work` */
export const workMethods = definitions['xtreemos.site.v1.Work'] as unknown as WorkMethods;
/** `xtreemos.site.v1.Storage` */
export const storageMethods = definitions['xtreemos.site.v1.Storage'] as unknown as StorageMethods;
