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

/** Methods that gateways speak among themselves. */
export interface PeerMethods {
  readonly Hello: MethodDefinition<HelloRequest, HelloResponse>;
}

/** `xtreemos.site.v1.Peer` */
export const peerMethods = definitions['xtreemos.site.v1.Peer'] as unknown as PeerMethods;
