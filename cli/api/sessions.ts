/**
 * Sessions at gateways, one file a site, for the owner alone, in `$XDG_STATE_HOME/xos` (XDG base directory specification
 * 0.8). Whoever reads these files is the user until the session ends.
 */
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { KubernetesCredentialAnswer, SessionAnswer } from '#common/identity/gateway-api.ts';
import type { Principal } from '#common/identity/ids.ts';
import type { Surroundings } from '../frame/context.ts';
import { CommandError } from '../frame/exit.ts';
import { makePrivateFolder, readIfThere, replacePrivateFile } from './files.ts';
import { withLock } from './lock.ts';

/** How long another process may hold the lock: it makes one request to the gateway meanwhile. */
const lockLimitMs = 60_000;

/** A session as it is stored. */
export interface StoredSession {
  readonly version: 1;
  readonly site: string;
  readonly address: string;
  readonly caBundle: string;
  readonly principal: Principal;
  readonly sessionToken: string;
  readonly sessionTokenExpiresAt: string;
  readonly refreshToken: string;
  /** Sent with this refresh token, as often as it takes; absent until it is used. */
  readonly refreshAttempt?: string;
  readonly expiresAt: string;
  /** Credentials for the API server by virtual organization. */
  readonly kubernetes: Readonly<Record<string, KubernetesCredentialAnswer>>;
}

/** The stored sessions of this user. */
export class SessionStore {
  private readonly folder: string;

  constructor({ env, homeDir }: Surroundings) {
    const state = env.XDG_STATE_HOME ?? '';
    this.folder = path.join(path.isAbsolute(state) ? state : path.join(homeDir, '.local', 'state'), 'xos');
  }

  /** Names of the sites that there are sessions for, sorted. */
  async sites(): Promise<string[]> {
    const names = await readdir(this.folder).catch(() => []);
    return names.flatMap((name) => (name.endsWith('.json') ? [name.slice(0, -'.json'.length)] : [])).sort();
  }

  /** The session at a site; undefined when there is none. */
  async find(site: string): Promise<StoredSession | undefined> {
    const text = await readIfThere(this.fileOf(site));
    if (text === undefined) return undefined;
    try {
      const stored = JSON.parse(text) as StoredSession | { readonly version: 'other' };
      if (stored.version === 1) return stored;
    } catch {
      // The same as a file of another version: of no use.
    }
    throw new CommandError('credentials', `${this.fileOf(site)} is of no use`, `Log in again: xos login`);
  }

  /**
   * Changes a session while no other process does. Nothing is stored when `change` throws.
   * @param change - gets what is stored now, and how to store something on the way, which stays when it throws or this process
   * dies; undefined as result removes the session.
   */
  async update(
    site: string,
    change: (
      stored: StoredSession | undefined,
      keep: (session: StoredSession) => Promise<void>,
    ) => Promise<StoredSession | undefined>,
  ): Promise<StoredSession | undefined> {
    const keep = async (session: StoredSession): Promise<void> =>
      replacePrivateFile(this.fileOf(site), `${JSON.stringify(session, undefined, 2)}\n`);
    await makePrivateFolder(this.folder);
    return withLock(path.join(this.folder, `${site}.lock`), lockLimitMs, async () => {
      const stored = await this.find(site).catch(() => undefined);
      const changed = await change(stored, keep);
      if (changed === undefined) await rm(this.fileOf(site), { force: true });
      else if (changed !== stored) await keep(changed);
      return changed;
    });
  }

  private fileOf(site: string): string {
    return path.join(this.folder, `${site}.json`);
  }
}

/** A session with what the gateway answered at login or refresh. */
export function withAnswer<S extends object>(
  session: S,
  { principal, sessionToken, sessionTokenExpiresAt, refreshToken, expiresAt }: SessionAnswer,
): S & SessionAnswer {
  return { ...session, principal, sessionToken, sessionTokenExpiresAt, refreshToken, expiresAt };
}
