import type { CredentialSource } from '#runtime/credentials.ts';
import type { RemoteStreams } from '#runtime/remote-command.ts';
import type { TerminalSize } from '#runtime/remote-channels.ts';
import type { ObjectKey } from '#runtime/types.ts';
import type { PodConnector, PodStream } from '../pod-connector.ts';

/** What happens in a pod: a program with input, outputs and an exit status. */
export type Program = (streams: RemoteStreams, signal: AbortSignal) => Promise<number | undefined>;

/** Pods in memory: what is asked of them is kept, and a program runs. */
export class MemoryPods implements PodConnector {
  readonly asked: { readonly pod: ObjectKey; readonly stream: PodStream; readonly credentials: CredentialSource }[] =
    [];
  readonly sizes: TerminalSize[] = [];
  program: Program = async () => Promise.resolve(0);

  async connect(
    pod: ObjectKey,
    stream: PodStream,
    credentials: CredentialSource,
    streams: RemoteStreams,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    this.asked.push({ pod, stream, credentials });
    streams.onConnect?.((size) => void this.sizes.push(size));
    const gone = new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
    return Promise.race([this.program(streams, signal), gone]);
  }
}

/** Gives back what it gets, until its input ends. */
export const echo: Program = async ({ stdin, onStdout }) => {
  for await (const chunk of stdin ?? []) await onStdout(chunk);
  return 3;
};

/** Goes on until it is ended. */
export const goesOn: Program = async ({ onStdout }) => {
  await onStdout(Buffer.from('here\n'));
  return new Promise(() => undefined);
};
