/** What ends a command other than success: exit statuses and the words for it. */
import { describeError, TerminalError } from '#common/errors.ts';
import { withoutRequest } from '#runtime/errors.ts';

/** Exit statuses of `xos`, documented in docs/cli.md. A job's own status is passed on by commands that follow a job. */
export const exitStatuses = {
  success: { code: 0, about: 'It is done.' },
  failure: { code: 1, about: 'It failed; the message says why.' },
  usage: { code: 2, about: 'The command line or a file given is wrong; nothing was sent.' },
  credentials: { code: 3, about: 'There are no credentials, or they are not accepted any more: log in.' },
  forbidden: { code: 4, about: 'The caller may not do this.' },
  notFound: { code: 5, about: 'What was named is not there.' },
  timeout: { code: 124, about: 'The time limit of `--timeout` is over; the change itself was made.' },
  interrupted: { code: 130, about: 'Interrupted by Ctrl-C.' },
} as const;

export type ExitReason = keyof typeof exitStatuses;

/** A failure with its exit status and what to do about it. */
export class CommandError extends TerminalError {
  override readonly name = 'CommandError';
  readonly reason: ExitReason;
  /** What to do next; shown on a line of its own. */
  readonly remedy: string | undefined;

  constructor(reason: ExitReason, message: string, remedy?: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
    this.remedy = remedy;
  }
}

/** What is shown, and the status the process ends with. */
export interface Ending {
  readonly code: number;
  readonly message: string;
  readonly remedy: string | undefined;
}

interface ApiErrorShape {
  readonly name: string;
  readonly message: string;
  readonly statusCode: number;
  readonly details?: { readonly causes?: readonly { readonly field?: string; readonly message?: string }[] };
}

const isApiError = (error: unknown): error is ApiErrorShape =>
  typeof error === 'object' && error !== null && 'statusCode' in error && 'message' in error;

/**
 * The ending that an error makes. Errors of the runtime are told by shape, so that their module is not loaded for a
 * command that needs no cluster.
 */
export function endingOf(error: unknown, interrupted: boolean): Ending {
  if (interrupted) return ending('interrupted', 'Interrupted', undefined);
  if (error instanceof CommandError) return ending(error.reason, describeError(error), error.remedy);
  if (error instanceof TerminalError) return ending('usage', error.message, undefined);
  if (isApiError(error)) return endingOfApiError(error);
  if (error instanceof Error && error.name === 'ConnectionError') {
    if (error.message.startsWith('GET /v1/')) {
      const remedy = 'Check that the gateway of this site, as `xos site show` names it, can be reached from here.';
      return ending('failure', `The connection through the gateway broke: ${describeError(error)}`, remedy);
    }
    const remedy = 'Check that the cluster runs and that --context (or KUBECONFIG) names the right one.';
    return ending('failure', `The API server does not answer: ${describeError(error)}`, remedy);
  }
  return ending('failure', describeError(error), undefined);
}

function endingOfApiError(error: ApiErrorShape): Ending {
  const said = withoutRequest(error.message);
  switch (error.statusCode) {
    case 401: {
      const remedy = 'Log in: xos login. (With a kubeconfig of your own, renew its credentials.)';
      return ending('credentials', 'The cluster does not accept the credentials of this context', remedy);
    }
    case 403: {
      const remedy = 'See who you are with xos whoami. An administrator of the virtual organization may do more.';
      return ending('forbidden', said, remedy);
    }
    case 404: {
      const isKindMissing = said.includes('could not find the requested resource') || said.includes('404 page');
      const remedy = isKindMissing
        ? 'XtreemOS is not installed on this cluster, or is older: ask its owner, or choose another with --context.'
        : undefined;
      return ending('notFound', said, remedy);
    }
    case 409:
      return ending('failure', said, 'Someone changed it at the same time: look at it, then try again.');
    case 400:
    case 422:
      return ending('failure', invalidText(said, error), undefined);
    default:
      return ending('failure', said, undefined);
  }
}

/** One line per field that the server found wrong. */
function invalidText(said: string, error: ApiErrorShape): string {
  const causes = (error.details?.causes ?? []).filter(({ field }) => field !== undefined && field !== '<nil>');
  if (causes.length === 0) return said;
  return causes.map(({ field, message }) => `${field ?? ''}: ${message ?? ''}`).join('\n');
}

function ending(reason: ExitReason, message: string, remedy: string | undefined): Ending {
  return { code: exitStatuses[reason].code, message, remedy };
}
