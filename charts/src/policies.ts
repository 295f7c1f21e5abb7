import { mutatingKind, policyObjects } from '#crds/policies/index.ts';
import { defaultSettings } from '#crds/policies/policy.ts';
import { block, text } from './helm.ts';
import type { Template } from './shared.ts';

const apiVersion = 'admissionregistration.k8s.io/v1';
/** Bindings first: without one a policy does nothing. */
const policyKinds = ['Validating', 'Mutating'].flatMap((way) => [
  `${way}AdmissionPolicyBinding`,
  `${way}AdmissionPolicy`,
]);

/**
 * The admission policies as templates. As the kinds, `helm uninstall` leaves them by default: what members made would otherwise stay without
 * rules. Those that fill in are there only where the API serves them.
 */
export function policyTemplates(): Template[] {
  const list = (name: string): string => text(`.Values.admission.${name} | toJson`);
  const files = policyObjects({
    operatorUser: text(`printf "'system:serviceaccount:%s:%s'" .Release.Namespace (include "xtreemos.fullname" .)`),
    siteName: text('.Values.site.name'),
    volumeClass: text(
      `ternary (printf "'%s'" (include "xtreemos.fullname" .)) "''" (not (empty .Values.csiController.provisionerImage))`,
    ),
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

/**
 * Takes away policies that an earlier chart installed and this one doesn't have: Helm never deletes what it is told to keep, not even when an
 * upgrade leaves it out. A hook with the name of an object that is there deletes it, makes it again, and deletes it for good.
 */
export function stalePolicies(): string {
  const objects = [...policyObjects(defaultSettings).values()].flat();
  const names = policyKinds.map((kind) => {
    const own = objects.filter((object) => object.kind === kind).map(({ metadata }) => JSON.stringify(metadata.name));
    return `  ${JSON.stringify(kind)} (list ${own.sort().join(' ')})`;
  });
  return `{{- $own := dict
${names.join('\n')}
}}
{{- range $kind := list ${policyKinds.map((kind) => JSON.stringify(kind)).join(' ')} }}
{{- if $.Capabilities.APIVersions.Has (printf "${apiVersion}/%s" $kind) }}
{{- range (lookup "${apiVersion}" $kind "" "").items }}
{{- $isOurs := eq (dig "labels" "app.kubernetes.io/part-of" "" .metadata) "xtreemos" }}
{{- $isKept := eq (dig "annotations" "helm.sh/resource-policy" "" .metadata) "keep" }}
{{- if and $isOurs $isKept (not (has .metadata.name (get $own $kind))) }}
---
apiVersion: ${apiVersion}
kind: {{ $kind }}
metadata:
  name: {{ .metadata.name }}
  annotations:
    helm.sh/hook: post-install,post-upgrade
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec: {{- toYaml .spec | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
`;
}
