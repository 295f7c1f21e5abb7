import { InvalidInputError } from '#common/errors.ts';
import { memberCredential } from '../../api/kube-credential.ts';
import type { Context } from '../../frame/context.ts';

/** `xos kube-credential`. */
export async function kubeCredential(
  { terminal, surroundings, version }: Context,
  { site, vo }: { readonly site: string | undefined; readonly vo: string | undefined },
): Promise<void> {
  if (site === undefined || vo === undefined) {
    throw new InvalidInputError(site === undefined ? '--site' : '--vo', 'is needed');
  }
  const status = await memberCredential(site, vo, surroundings, `xos/${version}`);
  terminal.print(JSON.stringify({ apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status }));
}
