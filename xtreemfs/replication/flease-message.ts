/** Flease messages: the data part of OSD procedure 71 (protocol reference, 16.1). All numbers are big-endian. */

/** What a message asks or answers. 7 to 11 are never sent. */
export const FleaseType = {
  PREPARE: 0,
  PREPARE_ACK: 1,
  PREPARE_NACK: 2,
  ACCEPT: 3,
  ACCEPT_ACK: 4,
  ACCEPT_NACK: 5,
  LEARN: 6,
  WRONG_VIEW: 12,
} as const;
export type FleaseType = (typeof FleaseType)[keyof typeof FleaseType];

const knownTypes: ReadonlySet<number> = new Set(Object.values(FleaseType));

/** A ballot: ordered by number, then by sender. */
export interface ProposalNumber {
  readonly number: number;
  /** Java's hash of the sender's UUID. */
  readonly senderId: number;
}

/** No proposal at all: less than any other. */
export const noProposal: ProposalNumber = { number: 0, senderId: 0 };

/** View of a cell that was invalidated. */
export const invalidatedView = -1;

/** Master epoch of messages that neither ask for one nor carry one, and the one that asks. */
export const ignoreEpoch = -1;
export const requestEpoch = 0;

/** One message. */
export interface FleaseMessage {
  readonly type: FleaseType;
  readonly cellId: string;
  readonly proposal: ProposalNumber;
  /** In a PREPARE_ACK the accepted proposal, in a NACK the prepared one. */
  readonly previous: ProposalNumber;
  /** Global time, milliseconds. */
  readonly sentAt: number;
  /** When the lease ends: global time, milliseconds; 0 when there is none. */
  readonly leaseEnd: number;
  /** UUID of the holder; empty for none. */
  readonly holder: string;
  /** Version of the replica set (XLocSet). */
  readonly view: number;
  readonly masterEpoch: number;
}

/** Less than 0 when `a` comes first. */
export function compareProposals(a: ProposalNumber, b: ProposalNumber): number {
  return a.number - b.number || a.senderId - b.senderId;
}

const fixedBytes = 1 + 4 + 16 + 16 + 8 + 8 + 4 + 4 + 8;
const textBytesMax = 1024;

/** @throws {RangeError} when a text is longer than 1,024 bytes. */
export function encodeFlease(message: FleaseMessage): Buffer {
  const cell = Buffer.from(message.cellId, 'latin1');
  const holder = Buffer.from(message.holder, 'latin1');
  if (cell.length > textBytesMax || holder.length > textBytesMax) {
    throw new RangeError(`cellId and holder may have ${textBytesMax} bytes at most`);
  }
  const bytes = Buffer.allocUnsafe(fixedBytes + cell.length + holder.length);
  let at = bytes.writeUInt8(message.type, 0);
  at = bytes.writeInt32BE(cell.length, at);
  at += cell.copy(bytes, at);
  const long = (value: number): void => {
    at = bytes.writeBigInt64BE(BigInt(Math.trunc(value)), at);
  };
  for (const { number, senderId } of [message.proposal, message.previous]) {
    long(number);
    long(senderId);
  }
  long(message.sentAt);
  long(message.leaseEnd);
  at = bytes.writeInt32BE(holder.length, at);
  at += holder.copy(bytes, at);
  at = bytes.writeInt32BE(message.view, at);
  long(message.masterEpoch);
  return bytes;
}

/** @returns undefined when the bytes are no Flease message, or one of a type that is never sent. */
export function decodeFlease(bytes: Buffer): FleaseMessage | undefined {
  if (bytes.length < fixedBytes || bytes.length > fixedBytes + 2 * textBytesMax) return undefined;
  let at = 1;
  const text = (): string | undefined => {
    if (at + 4 > bytes.length) return undefined;
    const length = bytes.readInt32BE(at);
    at += 4;
    if (length < 0 || length > textBytesMax || at + length > bytes.length) return undefined;
    at += length;
    return bytes.toString('latin1', at - length, at);
  };
  const long = (): number => {
    at += 8;
    return Number(bytes.readBigInt64BE(at - 8));
  };
  const type = bytes.readUInt8(0);
  const cellId = text();
  if (!knownTypes.has(type) || cellId === undefined || bytes.length - at < 48 + 4 + 12) return undefined;
  const proposal = { number: long(), senderId: long() };
  const previous = { number: long(), senderId: long() };
  const [sentAt, leaseEnd] = [long(), long()];
  const holder = text();
  if (holder === undefined || bytes.length - at !== 12) return undefined;
  const view = bytes.readInt32BE(at);
  at += 4;
  const masterEpoch = long();
  const numbers = [
    proposal.number,
    proposal.senderId,
    previous.number,
    previous.senderId,
    sentAt,
    leaseEnd,
    masterEpoch,
  ];
  if (!numbers.every(Number.isSafeInteger)) return undefined;
  return { type: type as FleaseType, cellId, proposal, previous, sentAt, leaseEnd, holder, view, masterEpoch };
}

/** Java's `String.hashCode`, by which upstream's nodes name themselves in ballots. */
export function javaHash(text: string): number {
  let hash = 0;
  for (let index = 0; index < text.length; index++) hash = (Math.imul(31, hash) + text.charCodeAt(index)) | 0;
  return hash;
}
