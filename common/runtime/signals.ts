/**
 * Aborts on SIGTERM or SIGINT. A second signal ends the process at once, by the signal's default way: the handlers are
 * taken away with the first.
 * @returns the signal, and a function that takes the handlers away.
 */
export function terminationSignal(source: NodeJS.EventEmitter = process): {
  readonly signal: AbortSignal;
  dispose(): void;
} {
  const controller = new AbortController();
  const names = ['SIGTERM', 'SIGINT'] as const;
  const dispose = (): void => {
    for (const name of names) source.off(name, onSignal);
  };
  const onSignal = (name: string): void => {
    dispose();
    controller.abort(new Error(`Got ${name}`));
  };
  for (const name of names) source.on(name, onSignal);
  return { signal: controller.signal, dispose };
}
