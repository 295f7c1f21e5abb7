import { taskContainerName } from '#crds/execution.ts';
import { createClient } from '#runtime/client.ts';
import type { CredentialSource } from '#runtime/credentials.ts';
import { createRegistry } from '#common/metrics.ts';
import { createRuntimeMetrics } from '#runtime/metrics.ts';
import { type ConnectRequest, connectPath, type LogRequest, logPath } from '#runtime/pod-streams.ts';
import { type RemoteStreams, runRemoteCommand } from '#runtime/remote-command.ts';
import { HttpTransport } from '#runtime/transport.ts';
import type { ObjectKey } from '#runtime/types.ts';

/** What of the container of a task is streamed. */
export type PodStream = { readonly log: LogRequest } | { readonly connect: ConnectRequest };

/** Streams of pods of this site, as whoever the credentials are of. */
export interface PodConnector {
  /**
   * Connects until the end.
   * @returns the exit status; undefined where there is none.
   * @throws {ApiError} when the API server refuses, {@link ConnectionError}, or the reason of the signal.
   */
  connect(
    pod: ObjectKey,
    stream: PodStream,
    credentials: CredentialSource,
    streams: RemoteStreams,
    signal: AbortSignal,
  ): Promise<number | undefined>;
}

/** {@link PodConnector} through the API server. */
export class ApiPodConnector implements PodConnector {
  /** Nobody reads them: each connection is one request. */
  private readonly metrics = createRuntimeMetrics(createRegistry());

  async connect(
    pod: ObjectKey,
    stream: PodStream,
    credentials: CredentialSource,
    streams: RemoteStreams,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    if ('connect' in stream) {
      const path = connectPath(pod, taskContainerName, stream.connect);
      return runRemoteCommand(credentials, { path, signal }, streams);
    }
    const transport = new HttpTransport({ credentials, metrics: this.metrics, userAgent: 'xtreemos-gateway' });
    try {
      const path = logPath(pod, taskContainerName, stream.log);
      const client = createClient(transport, { fieldManager: 'xtreemos-gateway' });
      await client.download(path, (chunk) => streams.onStdout(chunk), { signal });
      return undefined;
    } finally {
      await transport.close();
    }
  }
}
