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
export interface FollowEvent {
  kind: 'WHOLE' | 'ORGANIZATION' | 'MEMBER' | 'REMOVED' | 'SLICE';
  name: string;
  json: string;
}

/** Methods that gateways speak among themselves. */
export interface PeerMethods {
  readonly Hello: MethodDefinition<HelloRequest, HelloResponse>;
  readonly Follow: MethodDefinition<FollowRequest, FollowEvent>;
}

/** `xtreemos.site.v1.Peer` */
export const peerMethods = definitions['xtreemos.site.v1.Peer'] as unknown as PeerMethods;
