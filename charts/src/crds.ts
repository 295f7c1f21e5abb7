import { kinds } from '#crds/kinds.ts';
import { customResourceDefinition } from '#crds/structural.ts';
import { block, text } from './helm.ts';
import type { Template } from './shared.ts';

/**
 * The CustomResourceDefinitions as templates: Helm never upgrades what lies in a chart's `crds/` folder. The annotation makes
 * `helm uninstall` leave them, and with them every object of the users.
 */
export function crdTemplates(): Template[] {
  return kinds.map((kind) => {
    const definition = customResourceDefinition(kind);
    const metadata = {
      name: definition.metadata.name,
      labels: { 'app.kubernetes.io/part-of': 'xtreemos', 'app.kubernetes.io/version': text('.Chart.AppVersion') },
      // Absent, not "delete": Helm leaves whatever has this annotation, and of other values it says nothing.
      annotations: block('ternary (dict "helm.sh/resource-policy" "keep") (dict) .Values.crds.keep'),
    };
    return { name: `crd-${kind.plural}`, object: { ...definition, metadata }, condition: '.Values.crds.install' };
  });
}
