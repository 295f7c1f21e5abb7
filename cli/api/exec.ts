/** Exec credential plug-ins (client.authentication.k8s.io/v1), as kubectl runs them. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { describeError, InvalidInputError } from '#common/errors.ts';
import type { Surroundings } from '../frame/context.ts';
import { CommandError } from '../frame/exit.ts';
import type { ClusterEntry } from './kubeconfig.ts';
import type { ExecCredential, ExecRunner } from './credentials.ts';
import { ownCredential } from './kube-credential.ts';

/** A plug-in may ask the user something; without one at hand it must not hang. */
const timeoutMs = 120_000;
const answerBytesMax = 1024 * 1024;

/**
 * Runs plug-ins. The one of `xos login` is answered in this process instead, which saves starting Node twice.
 * @throws {CommandError} when the plug-in fails; its own words have been shown on stderr.
 */
export function execRunner(surroundings: Surroundings, program: string): ExecRunner {
  return async ({ exec }, cluster) => {
    const { command } = exec;
    if (command === undefined || command === '') {
      throw new InvalidInputError('exec.command', 'is empty: name the credential plug-in');
    }
    const args = [...(exec.args ?? [])];
    if (path.basename(command).startsWith('xos') && args[0] === 'kube-credential') {
      return ownCredential(args.slice(1), surroundings, program);
    }
    const info = {
      apiVersion: exec.apiVersion ?? 'client.authentication.k8s.io/v1',
      kind: 'ExecCredential',
      spec: {
        interactive: process.stdin.isTTY && exec.interactiveMode !== 'Never',
        ...(exec.provideClusterInfo === true ? { cluster: clusterInfo(cluster) } : {}),
      },
    };
    const env = {
      ...surroundings.env,
      ...Object.fromEntries((exec.env ?? []).map(({ name, value }) => [name, value])),
      KUBERNETES_EXEC_INFO: JSON.stringify(info),
    };
    const text = await outputOf(command, args, env, exec.installHint);
    return parseCredential(command, text);
  };
}

function clusterInfo(cluster: ClusterEntry): object {
  return {
    server: cluster.server,
    'certificate-authority-data': cluster['certificate-authority-data'],
    'insecure-skip-tls-verify': cluster['insecure-skip-tls-verify'],
    'tls-server-name': cluster['tls-server-name'],
    'proxy-url': cluster['proxy-url'],
  };
}

async function outputOf(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  installHint: string | undefined,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: ['inherit', 'pipe', 'inherit'] });
    // Not the option of spawn: its timer lives on when the program can't be started, and keeps the process alive.
    const timer = setTimeout(() => child.kill(), timeoutMs);
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (text.length > answerBytesMax) child.kill();
    });
    child.on('error', (error) => {
      clearTimeout(timer);
      const message = `The credential plug-in ${command} can't be started: ${describeError(error)}`;
      reject(new CommandError('credentials', message, installHint));
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve(text);
      else
        reject(new CommandError('credentials', `The credential plug-in ${command} ended with ${code ?? signal ?? ''}`));
    });
  });
}

function parseCredential(command: string, text: string): ExecCredential {
  try {
    const { status } = JSON.parse(text) as { status?: ExecCredential };
    if (status !== undefined) return status;
  } catch {
    // Told below: an answer that is no JSON is as little use as one without a status.
  }
  throw new CommandError('credentials', `The credential plug-in ${command} answered without an ExecCredential`);
}
