import type { MethodDefinition } from '@grpc/grpc-js';
import { fromJSON, type Options } from '@grpc/proto-loader';
import type { INamespace } from 'protobufjs';
import { schema } from './generated/schema.ts';
import type * as wire from './wire.ts';

const options: Options = { longs: Number, enums: String, defaults: true, oneofs: true };
const definitions = fromJSON(schema as INamespace, options);

/** Methods of the service that job managers speak to. */
export interface SelectorMethods {
  readonly Select: MethodDefinition<wire.SelectRequest, wire.SelectResponse>;
  readonly Hold: MethodDefinition<wire.HoldRequest, wire.HoldResponse>;
  readonly Confirm: MethodDefinition<wire.ClaimRequest, wire.Empty>;
  readonly Release: MethodDefinition<wire.ClaimRequest, wire.Empty>;
  readonly Watch: MethodDefinition<wire.WatchRequest, wire.WatchResponse>;
  readonly Status: MethodDefinition<wire.Empty, wire.StatusResponse>;
}

/** Methods that selectors speak among themselves. */
export interface OverlayMethods {
  readonly Connect: MethodDefinition<wire.Envelope, wire.Empty>;
}

/** `xtreemos.selector.v1.Selector` */
export const selectorMethods = definitions['xtreemos.selector.v1.Selector'] as unknown as SelectorMethods;
/** `xtreemos.selector.v1.Overlay` */
export const overlayMethods = definitions['xtreemos.selector.v1.Overlay'] as unknown as OverlayMethods;
