/**
 * Contexts of sessions in the kubeconfig. Comments, order and entries of others stay as they are; kubectl's own lock is
 * kept (`FILE.lock`, k8s.io/client-go/tools/clientcmd/config.go), and the file is replaced whole.
 */
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { Document, isMap, isSeq, parseDocument, YAMLMap, type YAMLSeq } from 'yaml';
import { InvalidInputError, systemErrorCode } from '#common/errors.ts';
import type { KubernetesCredentialAnswer } from '#common/identity/gateway-api.ts';
import { makePrivateFolder, readIfThere, replacePrivateFile } from './files.ts';

/** A context as `xos login` writes it. */
export interface SessionContext {
  readonly site: string;
  readonly virtualOrganization: string;
  readonly credential: Pick<KubernetesCredentialAnswer, 'server' | 'caBundle' | 'namespace'>;
}

/** Name of the context, and of its user. */
export function contextName(site: string, virtualOrganization: string): string {
  return `xos-${site}-${virtualOrganization}`;
}

/** Marks the entries of a site as ours; the kubeconfig keeps unknown fields out of these lists, so names do it. */
function clusterName(site: string): string {
  return `xos-${site}`;
}

/**
 * Writes contexts of one site, and makes the first of them current when `makeCurrent` is set.
 * @param command - how kubectl runs this program.
 */
export async function writeContexts(
  file: string,
  contexts: readonly SessionContext[],
  options: { readonly command: string; readonly makeCurrent: boolean },
): Promise<void> {
  const [first] = contexts;
  if (first === undefined) return;
  await edit(file, (document) => {
    for (const { site, virtualOrganization, credential } of contexts) {
      const name = contextName(site, virtualOrganization);
      const cluster = {
        server: credential.server,
        'certificate-authority-data': Buffer.from(credential.caBundle).toString('base64'),
      };
      const exec = {
        apiVersion: 'client.authentication.k8s.io/v1',
        command: options.command,
        args: ['kube-credential', '--site', site, '--vo', virtualOrganization],
        interactiveMode: 'Never',
        installHint: 'xos is missing: install it again, or remove this context with kubectl config delete-context.',
      };
      put(document, 'clusters', clusterName(site), 'cluster', cluster);
      put(document, 'users', name, 'user', { exec });
      put(document, 'contexts', name, 'context', {
        cluster: clusterName(site),
        user: name,
        namespace: credential.namespace,
      });
    }
    if (options.makeCurrent) document.set('current-context', contextName(first.site, first.virtualOrganization));
  });
}

/** Removes the contexts of a site. @returns their names. */
export async function removeContexts(file: string, site: string): Promise<string[]> {
  if ((await readIfThere(file)) === undefined) return [];
  const removed: string[] = [];
  await edit(file, (document) => {
    const contexts = document.get('contexts');
    if (!isSeq(contexts)) return;
    for (const item of contexts.items) {
      if (!isMap(item)) continue;
      const isOurs = item.getIn(['context', 'cluster']) === clusterName(site);
      if (isOurs) removed.push(String(item.get('name')));
    }
    for (const name of removed) {
      take(document, 'contexts', name);
      take(document, 'users', name);
    }
    take(document, 'clusters', clusterName(site));
    if (removed.includes(String(document.get('current-context')))) document.set('current-context', '');
  });
  return removed;
}

function put(document: Document, list: string, name: string, field: string, value: object): void {
  let items = document.get(list);
  if (!isSeq(items)) {
    document.set(list, document.createNode([]));
    items = document.get(list);
  }
  const sequence = items as YAMLSeq;
  sequence.flow = false;
  const found = sequence.items.find((item) => isMap(item) && item.get('name') === name);
  if (found instanceof YAMLMap) found.set(field, document.createNode(value));
  else sequence.add(document.createNode({ name, [field]: value }));
}

function take(document: Document, list: string, name: string): void {
  const items = document.get(list);
  if (!isSeq(items)) return;
  items.items = items.items.filter((item) => !(isMap(item) && item.get('name') === name));
}

async function edit(file: string, change: (document: Document) => void): Promise<void> {
  await makePrivateFolder(path.dirname(file));
  const lock = `${file}.lock`;
  try {
    await (await open(lock, 'wx', 0o600)).close();
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
    throw new InvalidInputError(
      'kubeconfig',
      `${lock} exists: kubectl is changing the file, or left it behind; then remove it`,
    );
  }
  try {
    const text = (await readIfThere(file)) ?? '';
    const document = text.trim() === '' ? new Document({ apiVersion: 'v1', kind: 'Config' }) : parseDocument(text);
    const [problem] = document.errors;
    if (problem !== undefined || !isMap(document.contents)) {
      throw new InvalidInputError(
        'kubeconfig',
        `${file} is no kubeconfig: mend it, or write to another with --kubeconfig`,
      );
    }
    change(document);
    await replacePrivateFile(file, document.toString({ lineWidth: 0 }));
  } finally {
    await rm(lock, { force: true });
  }
}
