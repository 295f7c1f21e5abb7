/** Virtual organizations and memberships as YAML: what people decided, and nothing that a cluster adds. */
import { InvalidInputError } from '#common/errors.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { KubeObject } from '#runtime/types.ts';
import type { Context } from '../frame/context.ts';
import { serialize } from '../output/print.ts';
import { readInput } from './input.ts';
import type { Objects, Organizations } from './organizations.ts';

const apiVersion = 'xtreemos.io/v1alpha1';

/** Fields of the spec that no import can set: issued by the operator, promised by the member, or bound to who asked. */
const unportable = ['identity', 'acceptedUse', 'dissolution'];

/** An object as it is exported. `identity` of a virtual organization is a choice of people, of a membership it is not. */
export function exportable(object: VirtualOrganization | VOMembership): KubeObject & { readonly spec: object } {
  const { name, namespace, labels } = object.metadata;
  const isMembership = object.kind === 'VOMembership';
  const spec = Object.entries(object.spec).filter(
    ([field]) => !unportable.includes(field) || (field === 'identity' && !isMembership),
  );
  return {
    apiVersion,
    kind: object.kind,
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(labels === undefined ? {} : { labels }),
    },
    spec: Object.fromEntries(spec),
  };
}

/** Several documents in one file. */
export async function toYaml(objects: readonly object[]): Promise<string> {
  const texts = await Promise.all(objects.map(async (object) => serialize('yaml', object)));
  return texts.join('---\n');
}

/** A document of a file, checked so far that it can be sent. */
export interface ImportDocument<K extends string = 'VirtualOrganization' | 'VOMembership'> {
  readonly kind: K;
  readonly name: string;
  readonly namespace: string | undefined;
  readonly labels: Record<string, string> | undefined;
  readonly spec: Readonly<Record<string, unknown>>;
}

/**
 * Reads a file of one or more documents; a `List` counts as what it holds.
 * @param kinds - those that the file may hold.
 * @throws {InvalidInputError} that names document and field.
 */
export async function readDocuments<const K extends string>(
  file: string,
  flag: string,
  kinds: readonly K[],
): Promise<ImportDocument<K>[]> {
  const text = await readInput(file, flag);
  const { parseAllDocuments } = await import('yaml');
  const parsed = parseAllDocuments(text, { maxAliasCount: 100 } as object);
  const documents: ImportDocument<K>[] = [];
  if (!Array.isArray(parsed)) throw new InvalidInputError(flag, `${file} is empty`);
  parsed.forEach((document, index) => {
    const where = `${file}, document ${index + 1}`;
    const [problem] = document.errors;
    if (problem !== undefined)
      throw new InvalidInputError(where, `is not YAML: ${problem.message.split('\n')[0] ?? ''}`);
    const value = document.toJS() as unknown;
    if (value === null || value === undefined) return;
    const items = isRecord(value) && Array.isArray(value.items) ? (value.items as unknown[]) : [value];
    documents.push(...items.map((item) => checkDocument(item, where, kinds)));
  });
  return documents;
}

function checkDocument<K extends string>(value: unknown, where: string, kinds: readonly K[]): ImportDocument<K> {
  if (!isRecord(value)) throw new InvalidInputError(where, 'is no object: it must have kind, metadata and spec');
  const { metadata, spec } = value;
  const kind = kinds.find((one) => one === value.kind);
  if (value.apiVersion !== apiVersion) {
    throw new InvalidInputError(`${where}, apiVersion`, `${JSON.stringify(value.apiVersion)} is not ${apiVersion}`);
  }
  if (kind === undefined) {
    throw new InvalidInputError(`${where}, kind`, `${JSON.stringify(value.kind)} is not ${kinds.join(' or ')}`);
  }
  if (!isRecord(metadata) || typeof metadata.name !== 'string' || metadata.name === '') {
    throw new InvalidInputError(`${where}, metadata.name`, 'is missing');
  }
  if (!isRecord(spec)) throw new InvalidInputError(`${where}, spec`, 'is missing');
  const namespace = typeof metadata.namespace === 'string' ? metadata.namespace : undefined;
  const labels = isRecord(metadata.labels) ? (metadata.labels as Record<string, string>) : undefined;
  return { kind, name: metadata.name, namespace, labels, spec };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Kinds of the documents of organizations. */
export const organizationKinds = ['VirtualOrganization', 'VOMembership'] as const;

/** What became of one document. */
type Outcome = 'created' | 'changed' | 'unchanged';

/** Brings every document to the cluster and says of each what became of it; virtual organizations first. */
export async function importDocuments(
  context: Context,
  api: Pick<Organizations, 'organizations' | 'memberships'>,
  documents: readonly ImportDocument[],
  { dryRun }: { readonly dryRun: boolean },
): Promise<void> {
  const { terminal } = context;
  const ordered = [...documents].sort((a, b) => Number(a.kind === 'VOMembership') - Number(b.kind === 'VOMembership'));
  if (ordered.length === 0) terminal.warn('the file holds nothing to import');
  for (const [index, document] of ordered.entries()) {
    terminal.progress(`Importing ${index + 1} of ${ordered.length}: ${document.name}`);
    const outcome =
      document.kind === 'VirtualOrganization'
        ? await importOne(context, api.organizations, document, dryRun)
        : await importOne(context, api.memberships, document, dryRun);
    terminal.print(`${document.kind} ${document.name} ${outcome}${dryRun ? ' (dry run)' : ''}`);
  }
}

async function importOne<T extends VirtualOrganization | VOMembership>(
  { signal }: Context,
  objects: Objects<T>,
  { name, namespace, labels, kind, spec }: ImportDocument,
  dryRun: boolean,
): Promise<Outcome> {
  const key = { name, namespace };
  const found = await objects.find(key, { signal });
  if (found === undefined) {
    await objects.create({ metadata: { name, namespace, labels }, spec } as unknown as T, { dryRun, signal });
    return 'created';
  }
  if (found.metadata.deletionTimestamp !== undefined) {
    throw new InvalidInputError(`${kind} ${name}`, 'is being deleted: import it again once it is gone');
  }
  const patched = await objects.patch(key, { type: 'merge', body: { metadata: { labels }, spec } }, { dryRun, signal });
  // A dry run never moves the version, so that specs are compared.
  const isSame = JSON.stringify(patched.spec) === JSON.stringify(found.spec);
  return isSame ? 'unchanged' : 'changed';
}
