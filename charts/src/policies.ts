import { mutatingKind, policyObjects } from '#crds/policies/index.ts';
import { block, text } from './helm.ts';
import type { Template } from './shared.ts';

/**
 * The admission policies as templates. As the kinds, `helm uninstall` leaves them by default: what members made would otherwise stay without
 * rules. Those that fill in are there only where the API serves them.
 */
export function policyTemplates(): Template[] {
  const list = (name: string): string => text(`.Values.admission.${name} | toJson`);
  const files = policyObjects({
    operatorUser: text(`printf "'system:serviceaccount:%s:%s'" .Release.Namespace (include "xtreemos.fullname" .)`),
    siteName: text('.Values.site.name'),
    priorityClassNames: list('priorityClassNames'),
    nodeLabels: list('nodeLabels'),
    podAnnotations: list('podAnnotations'),
  });
  return [...files].flatMap(([file, objects]) =>
    objects.map((object): Template => {
      const { name, annotations } = object.metadata;
      const metadata = {
        name,
        labels: { 'app.kubernetes.io/part-of': 'xtreemos', 'app.kubernetes.io/version': text('.Chart.AppVersion') },
        annotations: block(
          `mergeOverwrite (dict ${Object.entries(annotations ?? {})
            .flat()
            .map((word) => JSON.stringify(word))
            .join(' ')}) (ternary (dict "helm.sh/resource-policy" "keep") (dict) .Values.crds.keep)`,
        ),
      };
      const isMutating = object.kind.startsWith(mutatingKind);
      return {
        name: `policy-${file}${object.kind.endsWith('Binding') ? '-binding' : ''}`,
        object: { ...object, metadata },
        ...(isMutating ? { condition: `.Capabilities.APIVersions.Has "${object.apiVersion}/${mutatingKind}"` } : {}),
      };
    }),
  );
}
