import type { OsdWriteResponse } from '#proto/generated/xtreemfs/global-types.ts';
import { mergeTruncates } from '../authoritative-state.ts';
import type {
  ReadBytes,
  ReplicatedFile,
  ReplicaState,
  ReplicaStore,
  TruncateRecord,
  WholeObject,
} from '../replica-store.ts';

/** What a disk keeps of one file. */
export class StoredFile {
  readonly objects = new Map<number, WholeObject>();
  truncateEpoch = 0;
  truncates: readonly TruncateRecord[] = [];
}

/** One OSD's objects of one file, in memory; `pause` stands for the time that a disk takes, and may never end. */
export class MemoryReplicaStore implements ReplicaStore<ReplicatedFile> {
  private readonly file: StoredFile;
  private readonly objectBytes: number;
  private readonly pause: () => Promise<void>;

  constructor(file: StoredFile, objectBytes: number, pause: () => Promise<void>) {
    this.file = file;
    this.objectBytes = objectBytes;
    this.pause = pause;
  }

  async state(): Promise<ReplicaState> {
    await this.pause();
    const { objects, truncateEpoch, truncates } = this.file;
    const last = Math.max(-1, ...objects.keys());
    const fileBytes = last < 0 ? 0 : last * this.objectBytes + (objects.get(last)?.data.length ?? 0);
    const versions = new Map([...objects].map(([object, { version }]) => [object, version]));
    return { truncateEpoch, fileBytes, objects: versions, truncates };
  }

  async version(_file: ReplicatedFile, object: number): Promise<number | undefined> {
    return this.file.objects.get(object)?.version;
  }

  async truncates(): Promise<readonly TruncateRecord[]> {
    return this.file.truncates;
  }

  async read(_file: ReplicatedFile, object: number, offset: number, length: number): Promise<ReadBytes> {
    await this.pause();
    const data = this.file.objects.get(object)?.data.subarray(offset, offset + length) ?? Buffer.alloc(0);
    return { data, zeros: 0 };
  }

  async readWhole(_file: ReplicatedFile, object: number): Promise<WholeObject | undefined> {
    await this.pause();
    return this.file.objects.get(object);
  }

  async write(
    _file: ReplicatedFile,
    object: number,
    offset: number,
    data: Buffer,
    version: number,
  ): Promise<OsdWriteResponse> {
    await this.pause();
    const old = this.file.objects.get(object)?.data ?? Buffer.alloc(0);
    const whole = Buffer.alloc(Math.max(old.length, offset + data.length));
    old.copy(whole);
    data.copy(whole, offset);
    this.file.objects.set(object, { version, data: whole });
    return { sizeInBytes: object * this.objectBytes + whole.length, truncateEpoch: this.file.truncateEpoch };
  }

  async replace(_file: ReplicatedFile, object: number, whole: WholeObject): Promise<void> {
    await this.pause();
    this.file.objects.set(object, whole);
  }

  async removeObject(_file: ReplicatedFile, object: number): Promise<void> {
    await this.pause();
    this.file.objects.delete(object);
  }

  async truncate(file: ReplicatedFile, newFileBytes: number, version: number): Promise<OsdWriteResponse> {
    await this.pause();
    const lastObject = Math.ceil(newFileBytes / this.objectBytes) - 1;
    for (const [object, { data }] of this.file.objects) {
      if (object > lastObject) this.file.objects.delete(object);
      else if (object === lastObject) {
        const length = newFileBytes - object * this.objectBytes;
        this.file.objects.set(object, { version, data: data.subarray(0, length) });
      }
    }
    await this.adopt(file, file.xcap.truncateEpoch, [{ version, lastObject }]);
    return { sizeInBytes: newFileBytes, truncateEpoch: this.file.truncateEpoch };
  }

  async adopt(_file: ReplicatedFile, truncateEpoch: number, truncates: readonly TruncateRecord[]): Promise<void> {
    this.file.truncateEpoch = Math.max(this.file.truncateEpoch, truncateEpoch);
    this.file.truncates = mergeTruncates([this.file.truncates, truncates]);
  }
}
