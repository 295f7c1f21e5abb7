/** What the API server thinks of who asks. */
import type { Client } from './contracts.ts';

/** A right to ask for, as `resourceAttributes` of a SelfSubjectAccessReview. */
export interface Right {
  readonly namespace: string;
  readonly verb: string;
  readonly group?: string;
  readonly resource: string;
  readonly subresource?: string;
}

/** The user name by which the API server knows who asks. */
export async function whoAmI(client: Pick<Client, 'raw'>, signal?: AbortSignal): Promise<string> {
  const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
  const path = '/apis/authentication.k8s.io/v1/selfsubjectreviews';
  const review = (await client.raw('POST', path, body, { signal })) as {
    readonly status?: { readonly userInfo?: { readonly username?: string } };
  };
  const name = review.status?.userInfo?.username;
  if (name === undefined) throw new Error('the API server does not say as whom it knows this process');
  return name;
}

/** Whether who asks has a right. Admission policies may still refuse what is done with it. */
export async function mayI(client: Pick<Client, 'raw'>, right: Right, signal?: AbortSignal): Promise<boolean> {
  const body = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes: right },
  };
  const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
  const review = (await client.raw('POST', path, body, { signal })) as {
    readonly status?: { readonly allowed?: boolean };
  };
  return review.status?.allowed === true;
}
