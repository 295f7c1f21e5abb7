/** The part of `make demo` that shows a virtual organization: it is formed, gets a member, and the member runs a pod and a job under its own user id. */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Site } from '#crds/site.ts';
import type { TestSite } from '#sites/harness.ts';
import { ensureTools } from '#sites/tools.ts';

const organization = 'physics';
const member = 'bob';
const namespace = `vo-${organization}`;
const apiVersion = 'xtreemos.io/v1alpha1';

/** Tasks of the job of the demo. */
export const demoTasks = 4;

/** A job says what it needs, never where. */
const job = {
  name: 'where',
  options: ['--tasks', String(demoTasks), '--spread', '--cpu', '100m', '--memory', '32Mi'],
  program: ['xtreemos.io/busybox:1', '--', 'sh', '-c'],
  script: 'echo task $XTREEMOS_TASK_INDEX runs as $(id -un) on $XTREEMOS_NODE',
};

/** What the demo shows it on. */
export interface OrganizationDemo {
  readonly site: TestSite;
  /** Name of the Site object. */
  readonly siteName: string;
  /** kubeconfig that holds the users of the site. */
  readonly kubeconfig: string;
  readonly report: (line: string) => void;
}

/**
 * Forms the organization, lets the site accept it, and runs a pod as its member. What is there is kept, so it can be repeated after a crash.
 * @returns what the member saw, to print.
 */
export async function showOrganization(demo: OrganizationDemo): Promise<string> {
  const { site, siteName, report } = demo;
  const issuer = `kubernetes:${siteName}`;
  report(`Forming the virtual organization ${organization}, with ${member} as a member`);
  await clearDissolved(site);
  await site.apply([
    {
      apiVersion,
      kind: 'VirtualOrganization',
      metadata: { name: organization },
      spec: { state: 'Operational', administrators: [{ issuer, subject: 'alice' }] },
    },
  ]);
  await accept(site, siteName);
  await site.kubectl(['wait', '--for=condition=Ready', `vo/${organization}`, '--timeout=60s']);
  await site.apply([
    {
      apiVersion,
      kind: 'VOMembership',
      metadata: { name: member, namespace },
      spec: { principal: { issuer, subject: member }, state: 'Active' },
    },
  ]);
  await site.kubectl(['wait', '--for=condition=Ready', `vom/${member}`, '-n', namespace, '--timeout=60s']);
  return runAsMember(demo);
}

/** What was dissolved stays as a tombstone, which keeps the name until the owner of the site deletes it. */
async function clearDissolved(site: TestSite): Promise<void> {
  const state = ['-o', 'jsonpath={.status.state}'];
  const found = await site.kubectl(['get', 'vo', organization, '--ignore-not-found', ...state]);
  if (found === 'Dissolved') await site.kubectl(['delete', 'vo', organization, '--timeout=60s']);
}

async function accept(site: TestSite, siteName: string): Promise<void> {
  const { spec } = await site.get<Site>('site', siteName);
  const local = spec.type === 'Local' ? spec.local : undefined;
  const accepted = local?.acceptedVirtualOrganizations ?? [];
  if (accepted.some(({ name }) => name === organization)) return;
  const body = { spec: { local: { acceptedVirtualOrganizations: [...accepted, { name: organization }] } } };
  await site.kubectl(['patch', 'site', siteName, '--type=merge', '-p', JSON.stringify(body)]);
}

/** Logs in as the member with `xos`, in a folder of its own, and runs `id` in a pod. */
async function runAsMember({ site, siteName, kubeconfig, report }: OrganizationDemo): Promise<string> {
  report(`Logging in as ${member}, and running a pod`);
  const kubectl = (await ensureTools(['kubectl'])).path('kubectl');
  const scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-demo-'));
  try {
    const config = path.join(scratch, 'kubeconfig');
    const xos = path.join(scratch, 'xos');
    copyFileSync(kubeconfig, config);
    const bundle = path.resolve(import.meta.dirname, '../dist/xos.mjs');
    writeFileSync(xos, `#!/bin/sh\nexec '${process.execPath}' '${bundle}' "$@"\n`);
    chmodSync(xos, 0o700);
    const search = `${scratch}:${process.env.PATH ?? ''}`;
    const env = { ...process.env, KUBECONFIG: config, XDG_STATE_HOME: path.join(scratch, 'state'), PATH: search };
    const run = (program: string, ...args: string[]): string =>
      execFileSync(program, args, { env, encoding: 'utf8', timeout: 90_000, stdio: ['ignore', 'pipe', 'inherit'] });
    run(xos, 'login', '--kubernetes', '--context', `${member}@${site.name}`);
    const asMember = ['--context', `xos-${siteName}-${organization}`];
    run(kubectl, ...asMember, 'delete', 'pod', 'hello', '--ignore-not-found');
    const command = ['run', 'hello', '--image=xtreemos.io/busybox:1', '--restart=Never', '--command', '--', 'id'];
    run(kubectl, ...asMember, ...command);
    run(kubectl, ...asMember, 'wait', '--for=jsonpath={.status.phase}=Succeeded', 'pod/hello', '--timeout=60s');
    const seen = run(kubectl, ...asMember, 'logs', 'hello');
    report('Running a job that finds its own nodes');
    run(kubectl, ...asMember, 'delete', 'gridjob', job.name, '--ignore-not-found');
    const submitted = ['run', '--name', job.name, ...job.options, ...job.program];
    const said = run(xos, submitted[0] ?? '', ...asMember, ...submitted.slice(1), job.script);
    const listed = run(xos, 'ps', ...asMember, '--all');
    const nodes = run(xos, 'nodes', ...asMember);
    run(xos, 'logout', '--site', siteName);
    return [
      `$ kubectl ${asMember.join(' ')} ${command.join(' ')}\n$ kubectl ${asMember.join(' ')} logs hello\n${seen}`,
      `$ xos ${submitted.join(' ')} '${job.script}'\n${said}$ xos ps --all\n${listed}$ xos nodes\n${nodes}`,
    ].join('\n');
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
