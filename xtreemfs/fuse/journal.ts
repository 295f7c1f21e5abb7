import { fstatSync, ftruncateSync, readSync, writeSync } from 'node:fs';

/** Where a journal keeps its bytes: two files that outlive the process (opened by the keeper, inherited). */
export interface JournalFile {
  readAll(): Buffer;
  append(bytes: string): void;
  clear(): void;
}

/** A journal file over an open descriptor. */
export class DescriptorFile implements JournalFile {
  private readonly descriptor: number;
  private position = 0;

  constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  readAll(): Buffer {
    const bytes = Buffer.alloc(fstatSync(this.descriptor).size);
    let filled = 0;
    while (filled < bytes.length) {
      const count = readSync(this.descriptor, bytes, filled, bytes.length - filled, filled);
      if (count === 0) break;
      filled += count;
    }
    this.position = filled;
    return bytes.subarray(0, filled);
  }

  append(text: string): void {
    const bytes = Buffer.from(text);
    // A failure leaves the position, so that the next attempt covers what was written in part.
    for (let done = 0; done < bytes.length;) {
      done += writeSync(this.descriptor, bytes, done, bytes.length - done, this.position + done);
    }
    this.position += bytes.length;
  }

  clear(): void {
    ftruncateSync(this.descriptor, 0);
    this.position = 0;
  }
}

/** One fact, as JSON. The first element says which kind; the rest is the owner's. */
export type JournalRecord = readonly [kind: string, ...fields: unknown[]];

/**
 * What a mount's process must know to take over from one that died: an append-only list of facts, in memory files
 * that the keeper holds. It survives the death of the process, not that of the machine: then the mount is gone too.
 *
 * When the list has grown well beyond what is still true, the owner's state is written afresh to the other file; the
 * file that ends with the highest generation mark counts, so a death in between loses nothing.
 */
export class Journal {
  private current: JournalFile;
  private other: JournalFile;
  private generation = 0;
  private bytes = 0;
  /** Lines that wait for `flush`. */
  private waiting = '';
  private compactAt: number;
  private readonly compactMinBytes: number;

  /** @param compactMinBytes - below this size the list is left as it is. */
  constructor(first: JournalFile, second: JournalFile, compactMinBytes = 16 << 20) {
    this.current = first;
    this.other = second;
    this.compactMinBytes = compactMinBytes;
    this.compactAt = compactMinBytes;
  }

  /** The facts that a predecessor left, oldest first; empty at the start of a mount. A torn last line is dropped. */
  load(): JournalRecord[] {
    const [a, b] = [parse(this.current.readAll()), parse(this.other.readAll())];
    if (b.generation > a.generation) [this.current, this.other] = [this.other, this.current];
    const chosen = b.generation > a.generation ? b : a;
    this.generation = chosen.generation;
    if (chosen.generation < 0) this.rewrite([]);
    return chosen.records;
  }

  /** Takes a record; it is kept once `flush` was called. */
  append(record: JournalRecord): void {
    this.waiting += `${JSON.stringify(record)}\n`;
  }

  /** Writes the records that wait, in one piece. @throws a system error; they wait on then. */
  flush(): void {
    const { waiting } = this;
    if (waiting === '') return;
    this.current.append(waiting);
    this.waiting = '';
    this.bytes += waiting.length;
  }

  /** True when it is time to call `rewrite` with what is still true. */
  get isDue(): boolean {
    return this.bytes + this.waiting.length > this.compactAt;
  }

  /** Starts afresh with these facts. */
  rewrite(records: Iterable<JournalRecord>): void {
    this.generation = Math.max(0, this.generation + 1);
    this.waiting = '';
    this.other.clear();
    let bytes = 0;
    let batch = '';
    for (const record of records) {
      batch += `${JSON.stringify(record)}\n`;
      if (batch.length < 1 << 18) continue;
      bytes += batch.length;
      this.other.append(batch);
      batch = '';
    }
    this.other.append(`${batch}${JSON.stringify(['generation', this.generation])}\n`);
    this.current.clear();
    [this.current, this.other] = [this.other, this.current];
    this.bytes = 0;
    this.compactAt = Math.max(this.compactMinBytes, 2 * (bytes + batch.length));
  }
}

function parse(bytes: Buffer): { generation: number; records: JournalRecord[] } {
  const records: JournalRecord[] = [];
  let generation = -1;
  const lines = bytes.toString('utf8').split('\n');
  lines.pop();
  for (const line of lines) {
    const record = JSON.parse(line) as JournalRecord;
    if (record[0] === 'generation') generation = Number(record[1]);
    else records.push(record);
  }
  return { generation, records };
}
