import { createHmac } from 'node:crypto';
import type { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { type Secret, secrets } from '#runtime/builtin.ts';
import type { Client, Informer } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import type { Sealer, SealPurpose } from './sealing.ts';

/** On Secrets of the gateway: what it is. */
export const gatewayLabel = 'xtreemos.io/gateway';
const endsAnnotation = 'xtreemos.io/ends-ms';

/** Where sealed records are kept. */
export interface RecordParts {
  /** Not fenced: every replica keeps records, and each write compares versions. */
  readonly client: Client;
  /** Secrets of the operator's namespace with {@link gatewayLabel}. */
  readonly informer: Informer<Secret>;
  readonly namespace: string;
  readonly sealer: () => Promise<Sealer>;
  /** The key that tags are made with. */
  readonly refreshKey: () => Promise<Buffer>;
  readonly clock: Clock;
}

/** What the records of one kind are. */
interface RecordKind<R> {
  /** Value of {@link gatewayLabel}. */
  readonly use: string;
  /** Names are this, a hyphen, and the id. */
  readonly prefix: string;
  /** What the content is sealed as, together with the id. */
  readonly sealedAs: SealPurpose;
  /** Label by which records are found together. */
  readonly tagLabel: string;
  readonly schema: z.ZodType<R>;
}

/** A record as it was read. */
export interface ReadRecord<R> {
  readonly id: string;
  readonly content: R;
  readonly tag: string;
  readonly resourceVersion: string;
}

/** Records that end, each sealed in a Secret of the operator's namespace. */
export class SealedRecords<R extends { readonly endsMs: number }> {
  private readonly parts: RecordParts;
  private readonly kind: RecordKind<R>;

  constructor(parts: RecordParts, kind: RecordKind<R>) {
    this.parts = parts;
    this.kind = kind;
    parts.informer.addIndex(kind.tagLabel, ({ metadata }) => [metadata.labels?.[kind.tagLabel] ?? '']);
  }

  /** Ids of all of this kind that are known. */
  ids(): string[] {
    const isOurs = ({ metadata }: Stored<Secret>): boolean => metadata.labels?.[gatewayLabel] === this.kind.use;
    return this.parts.informer.list().filter(isOurs).map(this.idOf);
  }

  /** Ids of those with a tag, the latest first. */
  tagged(tag: string): string[] {
    const age = ({ metadata }: Stored<Secret>): number => Date.parse(metadata.creationTimestamp);
    const found = this.parts.informer.byIndex(this.kind.tagLabel, tag);
    return found.sort((a, b) => age(b) - age(a)).map(this.idOf);
  }

  /** Whether it is there; what the cache doesn't know yet, another replica may just have made. */
  async exists(id: string, signal: AbortSignal): Promise<boolean> {
    const key = this.keyOf(id);
    return (this.parts.informer.get(key) ?? (await this.parts.client.of(secrets).find(key, { signal }))) !== undefined;
  }

  /** Reads one from the API server itself: what another replica wrote counts at once. @returns undefined when it is gone, over or not ours. */
  async read(id: string, signal: AbortSignal): Promise<ReadRecord<R> | undefined> {
    const secret = await this.parts.client.of(secrets).find(this.keyOf(id), { signal });
    if (secret === undefined) return undefined;
    const sealed = Buffer.from(secret.data?.record ?? '', 'base64').toString();
    const content = this.kind.schema.safeParse((await this.parts.sealer()).open(this.kind.sealedAs, sealed, id));
    if (!content.success || content.data.endsMs <= this.parts.clock.now()) return undefined;
    const { labels, resourceVersion } = secret.metadata;
    return { id, content: content.data, tag: labels?.[this.kind.tagLabel] ?? '', resourceVersion };
  }

  /** Makes one. */
  async create(id: string, content: R, tag: string, signal: AbortSignal): Promise<void> {
    await this.parts.client.of(secrets).create(await this.secretOf(id, content, tag), { signal });
  }

  /** Changes one as it was read. @throws {ConflictError} when somebody else changed it; {NotFoundError} when it is gone. */
  async update({ id, tag, resourceVersion }: ReadRecord<R>, content: R, signal: AbortSignal): Promise<void> {
    const changed = await this.secretOf(id, content, tag);
    changed.metadata.resourceVersion = resourceVersion;
    await this.parts.client.of(secrets).update(changed, { signal });
  }

  /** Removes one. @throws {NotFoundError} when it is gone: of several who remove one, exactly one did. */
  async remove(id: string, signal: AbortSignal): Promise<void> {
    await this.parts.client.of(secrets).delete(this.keyOf(id), { signal });
  }

  /** Removes those whose time is over. For the one leader to call now and then. @returns how many are left. */
  async expire(signal: AbortSignal): Promise<number> {
    let left = 0;
    for (const id of this.ids()) {
      const ends = this.parts.informer.get(this.keyOf(id))?.metadata.annotations?.[endsAnnotation];
      if (Number(ends) > this.parts.clock.now()) left++;
      else await ignoreNotFound(this.remove(id, signal));
    }
    return left;
  }

  /** Tells things apart without naming them. @returns 32 hexadecimal digits. */
  async tagOf(...what: readonly string[]): Promise<string> {
    const mac = createHmac('sha256', await this.parts.refreshKey()).update(JSON.stringify(what));
    return mac.digest('hex').slice(0, 32);
  }

  private readonly idOf = ({ metadata }: Stored<Secret>): string => metadata.name.slice(this.kind.prefix.length + 1);

  private keyOf(id: string): { namespace: string; name: string } {
    return { namespace: this.parts.namespace, name: `${this.kind.prefix}-${id}` };
  }

  private async secretOf(id: string, content: R, tag: string): Promise<Secret> {
    const { use, sealedAs, tagLabel } = this.kind;
    const sealed = (await this.parts.sealer()).seal(sealedAs, content, id);
    return {
      metadata: {
        ...this.keyOf(id),
        labels: { [gatewayLabel]: use, [tagLabel]: tag },
        annotations: { [endsAnnotation]: String(content.endsMs) },
      },
      type: `xtreemos.io/${use}`,
      data: { record: Buffer.from(sealed).toString('base64') },
    };
  }
}
