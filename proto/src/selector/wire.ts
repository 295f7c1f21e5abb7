/**
 * The messages of proto/selector/selector.proto as they come from and go to the codec: 64-bit numbers as numbers,
 * enumerations as words, defaults filled in. What they mean is said in the .proto file.
 */

export type Empty = Record<string, never>;

export interface Constraint {
  attribute: string;
  min?: number;
  max?: number;
  in: string[];
  notIn: string[];
}

/** When and how firmly, in a query and in a hold alike. */
export interface Occasion {
  startMs: number;
  endMs: number;
  isPreemptible: boolean;
  isReservation: boolean;
}

export interface Query extends Occasion {
  id: string;
  constraints: Constraint[];
  predicates: string[];
  demand: Record<string, number>;
  virtualOrganization: string;
}

export interface SelectRequest {
  query: Query | null;
  wanted: number;
  timeoutMs: number;
}

export interface SelectResponse {
  offer?: Offer;
  summary?: Summary;
}

export interface Value {
  number?: number;
  word?: string;
}

export interface Offer {
  node: string;
  site: string;
  address: string;
  incarnation: number;
  attributes: Record<string, Value>;
  live: Record<string, number>;
  free: Record<string, number>;
}

export interface Summary {
  refusals: Record<string, number>;
  isExhausted: boolean;
  unreached: number;
  visited: number;
  falseVisits: number;
  hops: number;
}

export interface HoldRequest extends Occasion {
  id: string;
  owner: string;
  virtualOrganization: string;
  demand: Record<string, number>;
  ttlMs: number;
  reservation: string;
  isDraining: boolean;
  ownerReference: { apiVersion: string; kind: string; name: string; uid: string } | null;
}

export interface HoldResponse {
  ttlMs: number;
}

export interface ClaimRequest {
  id: string;
  owner: string;
}

export interface WatchRequest {
  predicates: string[];
}

export interface WatchResponse {
  live: Record<string, number>;
  broken: string;
  free: Record<string, number>;
}

export interface StatusResponse {
  json: string;
}

export interface Descriptor {
  site: string;
  node: string;
  address: string;
  incarnation: number;
  stamp: number;
  isLeaving: boolean;
  isOffering: boolean;
  attributes: Record<string, Value>;
  signature: Uint8Array;
}

export interface Borders {
  mintedAt: number;
  site: string;
  axes: { attribute: string; cuts: number[] }[];
  signature: Uint8Array;
}

export interface Average {
  stamp: number;
  starter: string;
  curves: { attribute: string; thresholds: number[] }[];
  values: number[];
}

export type GossipKind = 'EXCHANGE' | 'EXCHANGED' | 'FOUND' | 'PING' | 'PONG' | 'SHUFFLE' | 'SHUFFLED' | 'FIND';

export interface Gossip {
  kind: GossipKind;
  token: number;
  from: Descriptor | null;
  mark: { id: string; mintedAt: number } | null;
  items: Descriptor[];
  average: Average | null;
  bordersId: string;
  key: number[];
  filled: number[];
}

export interface QueryHop {
  token: number;
  replyTo: string;
  query: Query | null;
  bordersId: string;
  depth: number;
  budget: number;
  floor: number;
  hints: number;
  remainingMs: number;
}

export interface Envelope {
  gossip?: Gossip;
  borders?: { borders: Borders | null; former: Borders | null; replyTo: string };
  query?: QueryHop;
  ack?: { token: number };
  done?: { token: number; refused: boolean; offers: Offer[]; summary: Summary | null; hints: Descriptor[] };
}
