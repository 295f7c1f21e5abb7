/** Asks the API server whose bearer token it is. */
import type { Client, RequestOptions } from './contracts.ts';

/** Somebody as the API server knows them. */
export interface ReviewedUser {
  readonly username?: string;
  readonly uid?: string;
  readonly groups?: string[];
  /** What tokens of service accounts say besides, for example the pod that they are bound to. */
  readonly extra?: Record<string, string[]>;
}

interface TokenReview {
  readonly status?: {
    readonly authenticated?: boolean;
    readonly user?: ReviewedUser;
    readonly audiences?: readonly string[];
  };
}

/**
 * Whose token it is.
 * @param audience - whom the token must be for; without it, the API server itself.
 * @returns undefined when the API server does not accept the token, or not for this audience.
 * Source: TokenReview of authentication.k8s.io/v1. An authenticator that knows no audiences names none in its answer.
 */
export async function reviewToken(
  client: Client,
  token: string,
  { audience, ...request }: RequestOptions & { readonly audience?: string } = {},
): Promise<ReviewedUser | undefined> {
  const spec = audience === undefined ? { token } : { token, audiences: [audience] };
  const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec };
  const path = '/apis/authentication.k8s.io/v1/tokenreviews';
  const { status } = (await client.raw('POST', path, body, request)) as TokenReview;
  if (status?.authenticated !== true) return undefined;
  if (audience !== undefined && status.audiences?.includes(audience) !== true) return undefined;
  return status.user ?? {};
}
