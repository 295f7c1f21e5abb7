/** The tables of a DIR. */
export const dirTables = ['mappings', 'services', 'configurations'] as const;
export type DirTable = (typeof dirTables)[number];

/** A record as stored: its optimistic version and an encoded message. */
export interface DirRecord {
  readonly version: number;
  readonly value: Buffer;
}

/** Longest key that every store takes, bytes of UTF-8. */
export const keyBytesMax = 512;

/**
 * Where a DIR keeps its records. Reads give what was written before they began. A write resolves when it is durable:
 * it survives the death of the process and loss of power.
 */
export interface DirStore {
  get(table: DirTable, key: string): Promise<DirRecord | undefined>;
  /** Every record, by key. */
  list(table: DirTable): Promise<ReadonlyMap<string, DirRecord>>;
  /**
   * Writes a record if the stored version is still `expectedVersion` (0: there is none).
   * @returns whether it was written.
   */
  replace(table: DirTable, key: string, expectedVersion: number, record: DirRecord): Promise<boolean>;
  /** Removes a record, if there is one. */
  remove(table: DirTable, key: string): Promise<void>;
  close(): Promise<void>;
}
