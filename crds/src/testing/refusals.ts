import { type KubeClient, type KubeObject, KubeStatusError } from '#sites/kube-client.ts';
import { apiVersionOf } from '../kind.ts';
import { kinds } from '../kinds.ts';

/** Path of the collection that an object of a kind of this project belongs to. */
export function collectionOf(object: KubeObject): string {
  const kind = kinds.find((candidate) => candidate.kind === object.kind);
  if (kind === undefined) throw new Error(`no kind of this project: ${object.kind ?? 'nothing'}`);
  const namespace = kind.namespaced ? `/namespaces/${object.metadata?.namespace ?? 'default'}` : '';
  return `/apis/${apiVersionOf(kind)}${namespace}/${kind.plural}`;
}

/** What the API server says of an object that it refuses; empty when it accepts it. Nothing is stored. */
export async function refusalOf(client: KubeClient, object: KubeObject): Promise<string> {
  const at = `${collectionOf(object)}?dryRun=All&fieldValidation=Strict`;
  return refusal(client.json('POST', at, { body: object }));
}

/** What the API server says of a change (a merge patch) of a stored object that it refuses; empty when it makes the change. */
export async function refusalOfChange(client: KubeClient, object: KubeObject, change: object): Promise<string> {
  const at = `${collectionOf(object)}/${object.metadata?.name ?? ''}?fieldValidation=Strict`;
  return refusal(client.json('PATCH', at, { body: change, contentType: 'application/merge-patch+json' }));
}

async function refusal(request: Promise<unknown>): Promise<string> {
  try {
    await request;
    return '';
  } catch (error) {
    if (error instanceof KubeStatusError) return error.message;
    throw error;
  }
}
