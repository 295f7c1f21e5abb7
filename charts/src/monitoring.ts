/**
 * Dashboards and alerts. They are files of the chart, which templates take as they are: both are full of braces that Helm would read as its own.
 */
import { fileSystemLabel } from '#operator/storage/names.ts';
import { alertRules } from './alerts.ts';
import { fileSystemDashboard } from './dashboard.ts';
import { block, text } from './helm.ts';
import { named, namespace, type Add, type Template, templatesOf } from './shared.ts';

const dashboardFile = 'dashboards/file-systems.json';
const alertsFile = 'alerts/file-systems.json';
const scrapeInterval = '30s';

/** The files that templates take in, by their path in the chart. */
export function monitoringFiles(notice: string): [string, string][] {
  return [
    [dashboardFile, JSON.stringify(fileSystemDashboard(notice))],
    [alertsFile, JSON.stringify({ groups: alertRules() })],
  ];
}

/** The objects that Grafana and the Prometheus operator look for. */
export function monitoringTemplates(): Template[] {
  return templatesOf('monitoring', (add) => {
    addDashboards(add);
    addMonitors(add);
  });
}

/** The labels that the user wants, with ours. @param more - pairs of a Helm `dict`. */
function labelsWith(more: string): Record<string, string> {
  const own = '"app.kubernetes.io/name" "xtreemos" "app.kubernetes.io/part-of" "xtreemos"';
  return block(`merge (dict ${own} ${more}) .Values.monitoring.labels`);
}

function addDashboards(add: Add): void {
  add(
    'monitoring-dashboards',
    'v1',
    'ConfigMap',
    {
      metadata: { name: named('dashboards'), namespace, labels: labelsWith('"grafana_dashboard" "1"') },
      data: { 'xtreemos-file-systems.json': text(`.Files.Get "${dashboardFile}"`) },
    },
    '.Values.monitoring.dashboards',
  );
  add(
    'monitoring-alerts',
    'monitoring.coreos.com/v1',
    'PrometheusRule',
    {
      metadata: { name: named('alerts'), namespace, labels: labelsWith('') },
      spec: block(`.Files.Get "${alertsFile}" | fromJson`),
    },
    '.Values.monitoring.alerts',
  );
}

function addMonitors(add: Add): void {
  const monitor = (id: string, fields: object): void =>
    add(
      `monitoring-${id}`,
      'monitoring.coreos.com/v1',
      'PodMonitor',
      { metadata: { name: named(id), namespace, labels: labelsWith('') }, spec: fields },
      '.Values.monitoring.monitors',
    );
  monitor('file-systems', {
    selector: { matchExpressions: [{ key: fileSystemLabel, operator: 'Exists' }] },
    podMetricsEndpoints: [{ port: 'http', interval: scrapeInterval }],
  });
  monitor('node-agents', {
    selector: {
      matchLabels: { 'app.kubernetes.io/name': 'xtreemos', 'app.kubernetes.io/instance': text('.Release.Name') },
      matchExpressions: [
        {
          key: 'app.kubernetes.io/component',
          operator: 'In',
          values: ['node-agent', 'mount-holder', 'csi-controller'],
        },
      ],
    },
    podMetricsEndpoints: [{ port: 'health', interval: scrapeInterval }],
  });
  add(
    'monitoring-networkpolicy',
    'networking.k8s.io/v1',
    'NetworkPolicy',
    {
      metadata: { name: named('file-system-metrics'), namespace },
      spec: {
        podSelector: { matchExpressions: [{ key: fileSystemLabel, operator: 'Exists' }] },
        policyTypes: ['Ingress'],
        ingress: [{ from: block('.Values.metrics.from'), ports: [{ port: 'http', protocol: 'TCP' }] }],
      },
    },
    'and .Values.monitoring.monitors .Values.networkPolicy.enabled',
  );
}
