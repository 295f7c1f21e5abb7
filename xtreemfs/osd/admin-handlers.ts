import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import type { RpcServer } from '#xtreemfs/rpc/server.ts';
import type { AccessControl } from './access.ts';
import { answering } from './answers.ts';
import type { Cleanup } from './cleanup.ts';

/** What the administrative procedures need. */
export interface AdminHandlersOptions {
  readonly access: AccessControl;
  readonly cleanup: Cleanup;
  /** Starts to drop the file versions that no snapshot shows any more. */
  readonly startVersionCleanup: () => void;
  /** Asks the MRC which snapshots a volume has; resolves when changes keep what they show. */
  readonly lookAtSnapshots: (volumeId: string) => Promise<void>;
  /** Ends the server after the call was answered. */
  readonly shutdown: () => void;
}

const empty = { response: {} };

/** Registers clean-up and shutdown; all of them ask for the administrator's password if there is one. */
export function registerAdminHandlers(server: RpcServer, options: AdminHandlersOptions): void {
  const { access, cleanup } = options;
  server.handle(
    osdProcedures.cleanupStart,
    answering((context, request) => {
      access.checkAdmin(context.auth);
      cleanup.start(request);
      return empty;
    }),
  );
  server.handle(
    osdProcedures.cleanupStop,
    answering(async (context) => {
      access.checkAdmin(context.auth);
      await cleanup.stop();
      return empty;
    }),
  );
  server.handle(
    osdProcedures.cleanupIsRunning,
    answering((context) => {
      access.checkAdmin(context.auth);
      return { response: { isRunning: cleanup.isRunning } };
    }),
  );
  server.handle(
    osdProcedures.cleanupStatus,
    answering((context) => {
      access.checkAdmin(context.auth);
      return { response: { status: cleanup.status } };
    }),
  );
  server.handle(
    osdProcedures.cleanupGetResults,
    answering((context) => {
      access.checkAdmin(context.auth);
      return { response: { results: [...cleanup.results] } };
    }),
  );
  server.handle(
    osdProcedures.cleanupVersionsStart,
    answering((context) => {
      access.checkAdmin(context.auth);
      options.startVersionCleanup();
      return empty;
    }),
  );
  // Who asks only has the OSD look: what there is, it believes the MRC alone.
  server.handle(
    osdProcedures.lookAtSnapshots,
    answering(async (_context, { volumeId }) => {
      await options.lookAtSnapshots(volumeId);
      return empty;
    }),
  );
  server.handle(
    osdProcedures.shutdown,
    answering((context) => {
      access.checkAdmin(context.auth);
      options.shutdown();
      return empty;
    }),
  );
}
