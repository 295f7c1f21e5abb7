/**
 * Random work of two clients on the same files, beside a model of what close-to-open consistency promises: who opens a
 * file sees everything that was written by those who have closed or synced it, and perhaps more; what a handle reads
 * was there at some time since it was opened, unless another client has deleted the file; who writes sees it.
 */
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';

/** One thing that a client (0 or 1) does; slots hold its open files. */
export type Step = { readonly client: number } & (
  | { readonly kind: 'open'; readonly slot: number; readonly name: string; readonly flags: 'r' | 'r+' | 'w' }
  | { readonly kind: 'write'; readonly slot: number; readonly at: number; readonly length: number }
  | { readonly kind: 'cut'; readonly slot: number; readonly length: number }
  | { readonly kind: 'read' | 'close' | 'sync'; readonly slot: number }
  | { readonly kind: 'show' | 'unlink'; readonly name: string }
  | { readonly kind: 'append' | 'replace'; readonly name: string; readonly length: number }
  | { readonly kind: 'shorten'; readonly name: string; readonly length: number }
  | { readonly kind: 'kill'; readonly victim: string }
);

const client = fc.integer({ min: 0, max: 1 });
const slot = fc.integer({ min: 0, max: 1 });
const name = fc.constantFrom('a', 'b', 'c');
const length = fc.constantFrom(1, 700, 5000, 140_000);
const place = fc.constantFrom(0, 1, 4095, 131_071);
const step = <K extends string, F extends object>(
  weight: number,
  kinds: readonly K[],
  fields: { [name in keyof F]: fc.Arbitrary<F[name]> },
): { weight: number; arbitrary: fc.Arbitrary<{ kind: K; client: number } & F> } => ({
  weight,
  arbitrary: fc
    .tuple(fc.constantFrom(...kinds), client, fc.record(fields))
    .map(([kind, by, rest]) => ({ ...(rest as F), kind, client: by })),
});

/** Any step; those that kill a process of the installation come only when there are victims. */
export function anyStep(victims: readonly string[]): fc.Arbitrary<Step> {
  const flags = fc.constantFrom('r' as const, 'r+' as const, 'w' as const);
  const steps: { weight: number; arbitrary: fc.Arbitrary<Step> }[] = [
    step(4, ['open'], { slot, name, flags }),
    step(6, ['write'], { slot, at: place, length }),
    step(1, ['cut'], { slot, length }),
    step(5, ['read', 'close', 'sync'], { slot }),
    step(5, ['show', 'unlink'], { name }),
    step(5, ['append', 'replace'], { name, length }),
    step(2, ['shorten'], { name, length }),
  ];
  if (victims.length > 0) steps.push(step(2, ['kill'], { victim: fc.constantFrom(...victims) }));
  return fc.oneof(...steps);
}

/** A range that was written, and by whom; `version` is the first that has it. */
interface Write {
  readonly client: number;
  readonly version: number;
  readonly start: number;
  readonly end: number;
}

/** Everything that a file ever held, in order. */
class ModelFile {
  readonly versions: Buffer[] = [Buffer.alloc(0)];
  readonly writes: Write[] = [];
  readonly handles = new Set<Handle>();
  /** Who took its last name. Its bytes are there for that client's handles alone. */
  removedBy: number | undefined;

  get latest(): number {
    return this.versions.length - 1;
  }

  get content(): Buffer {
    return this.versions[this.latest] ?? Buffer.alloc(0);
  }

  write(by: number, at: number, data: Buffer): void {
    const next = Buffer.alloc(Math.max(this.content.length, at + data.length));
    this.content.copy(next);
    data.copy(next, at);
    this.versions.push(next);
    this.writes.push({ client: by, version: this.latest, start: at, end: at + data.length });
  }

  cut(by: number, size: number): void {
    const next = Buffer.alloc(size);
    this.content.copy(next);
    this.versions.push(next);
    this.writes.push({ client: by, version: this.latest, start: 0, end: Math.max(size, 1) });
  }

  /** The oldest version that a client may find when it opens the file now. */
  oldest(by: number): number {
    const unsettled = [...this.handles].filter((handle) => handle.client !== by).map((handle) => handle.firstUnsettled);
    return Math.min(this.latest, ...unsettled.map((version) => version - 1));
  }

  /** @returns what is wrong with bytes that a client read, when nothing older than `floor` may be seen. */
  judge(by: number, floor: number, found: Buffer): string | undefined {
    const own = this.writes.filter((write) => write.client === by && write.version > floor);
    const from = Math.max(floor, ...own.map((write) => (write.end > found.length ? write.version : floor)));
    const sizes = this.versions.slice(from).map((version) => version.length);
    if (found.length < Math.min(...sizes) || found.length > Math.max(...sizes)) {
      return `${found.length} bytes, and not one of ${sizes.join(', ')}`;
    }
    if (found.equals(this.content)) return undefined;
    for (let at = 0; at < found.length; at++) {
      const oldest = own.reduce((least, write) => (at >= write.start && at < write.end ? write.version : least), floor);
      const allowed = this.versions.slice(oldest).filter((version) => at < version.length);
      if (!allowed.some((version) => version[at] === found[at])) {
        const wanted = [...new Set(allowed.map((version) => version[at]))].join(' or ');
        return `byte ${at} is ${found[at]}, not ${wanted} (${found.length} bytes, versions ${oldest} to ${this.latest})`;
      }
    }
    return undefined;
  }
}

interface Handle {
  readonly client: number;
  readonly file: ModelFile;
  readonly real: fs.FileHandle;
  readonly canRead: boolean;
  readonly canWrite: boolean;
  /** What was there when it was opened, at least. */
  readonly floor: number;
  /** First version that others need not see yet. */
  firstUnsettled: number;
}

/** Two clients at work in one folder. */
export class TwoClients {
  private readonly roots: readonly string[];
  private readonly kill: (victim: string) => void;
  private readonly names = new Map<string, ModelFile>();
  private readonly handles = new Map<string, Handle>();
  /** When a name was last seen to be absent (monotonic time): until then it may be remembered so. */
  private readonly absentAt = new Map<string, number>();
  private fill = 0;

  /** @param roots - the folder as each client sees it. */
  constructor(roots: readonly string[], kill: (victim: string) => void) {
    this.roots = roots;
    this.kill = kill;
  }

  /** Does one step. @returns what was wrong with it. */
  async run(step: Step): Promise<string | undefined> {
    switch (step.kind) {
      case 'kill':
        this.kill(step.victim);
        return undefined;
      case 'open':
        return await this.open(step.client, step.slot, step.name, step.flags);
      case 'write':
      case 'cut':
      case 'read':
      case 'close':
      case 'sync': {
        const handle = this.handles.get(`${step.client}.${step.slot}`);
        return handle === undefined ? undefined : await this.use(handle, step);
      }
      case 'show':
        return await this.existing(step.client, step.name, async (file, path) => {
          const floor = file.oldest(step.client);
          return file.judge(step.client, floor, await fs.readFile(path));
        });
      case 'append':
        return await this.append(step.client, step.name, step.length);
      case 'shorten':
        return await this.existing(step.client, step.name, async (file, path) => {
          await fs.truncate(path, step.length);
          file.cut(step.client, step.length);
          return undefined;
        });
      case 'unlink':
        return await this.existing(step.client, step.name, async (_file, path) => {
          await fs.unlink(path);
          this.remove(step.client, step.name);
          this.absentAt.set(step.name, performance.now());
          return undefined;
        });
      case 'replace': {
        const path = this.path(step.client, step.name);
        const file = new ModelFile();
        file.write(step.client, 0, this.bytes(step.length));
        await fs.writeFile(`${path}.new`, file.content);
        await fs.rename(`${path}.new`, path);
        this.remove(step.client, step.name);
        this.names.set(step.name, file);
        return undefined;
      }
    }
  }

  private remove(by: number, file: string): void {
    const model = this.names.get(file);
    if (model !== undefined) model.removedBy = by;
    this.names.delete(file);
  }

  /** Closes what is open. */
  async finish(): Promise<void> {
    for (const key of this.handles.keys()) await this.close(key);
  }

  /** What should be in the folder, by name. */
  contents(): Map<string, Buffer> {
    return new Map([...this.names].map(([key, file]) => [key, file.content]));
  }

  private path(by: number, file: string): string {
    return join(this.roots[by] ?? '', file);
  }

  private bytes(count: number): Buffer {
    this.fill = (this.fill % 251) + 1;
    return Buffer.alloc(count, this.fill);
  }

  /** Does something to a file that is there. If it isn't, that must be said; if it just came, it may be. */
  private async existing(
    by: number,
    file: string,
    act: (model: ModelFile, path: string) => Promise<string | undefined>,
  ): Promise<string | undefined> {
    const model = this.names.get(file);
    const start = performance.now();
    const mayBeAbsent = start - (this.absentAt.get(file) ?? start) < rememberedMs;
    try {
      const wrong = await act(model ?? new ModelFile(), this.path(by, file));
      return model === undefined ? 'worked on a file that is not there' : wrong;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      if (model === undefined) this.absentAt.set(file, performance.now());
      return model === undefined || mayBeAbsent ? undefined : 'ENOENT for a file that is there';
    }
  }

  private async append(by: number, file: string, count: number): Promise<string | undefined> {
    return await this.existing(by, file, async (model, path) => {
      const floor = model.oldest(by);
      if (floor < model.latest) return undefined; // its end is not agreed on
      const real = await fs.open(path, fs.constants.O_WRONLY | fs.constants.O_APPEND);
      try {
        const data = this.bytes(count);
        await real.write(data);
        model.write(by, model.content.length, data);
      } finally {
        await real.close();
      }
      return undefined;
    });
  }

  private async open(by: number, at: number, file: string, flags: 'r' | 'r+' | 'w'): Promise<string | undefined> {
    await this.close(`${by}.${at}`);
    const take = (model: ModelFile, real: fs.FileHandle): void => {
      const floor = model.oldest(by);
      const [canRead, canWrite] = [flags !== 'w', flags !== 'r'];
      const handle = { client: by, file: model, real, canRead, canWrite, floor, firstUnsettled: Infinity };
      model.handles.add(handle);
      this.handles.set(`${by}.${at}`, handle);
    };
    if (flags === 'w') {
      const real = await fs.open(this.path(by, file), 'w');
      const model = this.names.get(file) ?? new ModelFile();
      this.names.set(file, model);
      model.cut(by, 0);
      take(model, real);
      return undefined;
    }
    return await this.existing(by, file, async (model, path) => {
      take(model, await fs.open(path, flags));
      return undefined;
    });
  }

  private async close(key: string): Promise<void> {
    const handle = this.handles.get(key);
    if (handle === undefined) return;
    this.handles.delete(key);
    await handle.real.close();
    handle.file.handles.delete(handle);
  }

  private async use(handle: Handle, step: Step): Promise<string | undefined> {
    const { file, real, client: by } = handle;
    switch (step.kind) {
      case 'write': {
        if (!handle.canWrite) return undefined;
        const data = this.bytes(step.length);
        await real.write(data, 0, data.length, step.at);
        file.write(by, step.at, data);
        handle.firstUnsettled = Math.min(handle.firstUnsettled, file.latest);
        return undefined;
      }
      case 'cut':
        if (!handle.canWrite) return undefined;
        await real.truncate(step.length);
        file.cut(by, step.length);
        handle.firstUnsettled = Math.min(handle.firstUnsettled, file.latest);
        return undefined;
      case 'read': {
        if (!handle.canRead || (file.removedBy ?? by) !== by) return undefined;
        const buffer = Buffer.alloc(400_000);
        const { bytesRead } = await real.read(buffer, 0, buffer.length, 0);
        return file.judge(by, handle.floor, buffer.subarray(0, bytesRead));
      }
      case 'sync':
        await real.sync();
        handle.firstUnsettled = Infinity;
        return undefined;
      default:
        for (const [key, open] of this.handles) if (open === handle) await this.close(key);
        return undefined;
    }
  }
}

/** How long a mount may remember that a name is not there: ten seconds, and what a busy machine takes. */
const rememberedMs = 11_000;
