/** The dashboard of file systems and volumes, as Grafana imports it. */

interface Query {
  /** PromQL. */
  readonly expr: string;
  /** Of the lines, in Grafana's braces. */
  readonly legend: string;
}

interface PanelTerms {
  readonly title: string;
  readonly about: string;
  /** As Grafana calls them. */
  readonly unit: string;
  readonly queries: readonly Query[];
}

const schemaVersion = 39;
const datasource = { type: 'prometheus', uid: '${datasource}' };
const columns = 2;
const panelSize = { w: 24 / columns, h: 8 };

const calls = 'xtreemos_xtreemfs_call_duration_seconds';
const quantile = (part: number): string =>
  `histogram_quantile(${part}, sum by (le, server, procedure) (rate(${calls}_bucket[$__rate_interval])))`;

const panels: readonly PanelTerms[] = [
  {
    title: 'OSDs',
    about: 'Serving, away (their pods are not ready) and lost (no pod has their folder any more).',
    unit: 'none',
    queries: [{ expr: 'xtreemos_file_system_osds', legend: '{{file_system}} {{state}}' }],
  },
  {
    title: 'Space',
    about: 'Of all OSDs of a file system together.',
    unit: 'bytes',
    queries: [{ expr: 'xtreemos_file_system_bytes', legend: '{{file_system}} {{kind}}' }],
  },
  {
    title: 'Free part of each OSD',
    about: 'New files go to OSDs with space; below a tenth an alert comes.',
    unit: 'percentunit',
    queries: [{ expr: 'xtreemos_osd_disk_free_bytes / xtreemos_osd_disk_size_bytes', legend: '{{pod}}' }],
  },
  {
    title: 'Files to move',
    about: 'Off OSDs that are to go. When it stays, the condition Scaled of the FileSystem says why.',
    unit: 'none',
    queries: [{ expr: 'xtreemos_file_system_files_to_move', legend: '{{file_system}}' }],
  },
  {
    title: 'Volumes, and files with damage',
    about: 'Damage is found by scrubbing and by reading; it is never handed out.',
    unit: 'none',
    queries: [
      { expr: 'xtreemos_file_system_volumes', legend: 'volumes on {{file_system}}' },
      { expr: 'xtreemos_osd_damaged_files', legend: 'damaged on {{pod}}' },
    ],
  },
  {
    title: 'Requests',
    about: 'Answered a second, by server.',
    unit: 'reqps',
    queries: [{ expr: `sum by (pod) (rate(${calls}_count[$__rate_interval]))`, legend: '{{pod}}' }],
  },
  {
    title: 'How long requests take',
    about: '99 of 100 are faster.',
    unit: 's',
    queries: [{ expr: quantile(0.99), legend: '{{server}} {{procedure}}' }],
  },
  {
    title: 'Failures',
    about: 'Requests that were answered with an error; a missing file counts too.',
    unit: 'reqps',
    queries: [
      {
        expr: 'sum by (server, procedure) (rate(xtreemos_xtreemfs_call_failures_total[$__rate_interval]))',
        legend: '{{server}} {{procedure}}',
      },
    ],
  },
  {
    title: 'Connections and running requests',
    about: 'Many running requests mean that a server, or its disk, does not keep up.',
    unit: 'none',
    queries: [
      { expr: 'xtreemos_xtreemfs_connections', legend: 'connections of {{pod}}' },
      { expr: 'sum by (pod) (xtreemos_xtreemfs_calls_running)', legend: 'running at {{pod}}' },
    ],
  },
  {
    title: 'Data that is not on disk yet',
    about: 'Files with acknowledged data that a loss of power would cost; written every few seconds.',
    unit: 'none',
    queries: [{ expr: 'xtreemos_osd_files_dirty', legend: '{{pod}}' }],
  },
  {
    title: 'Mounts on nodes',
    about: 'Of volumes; starting ones do not serve yet. Take-overs are replacements of a process under a mount.',
    unit: 'none',
    queries: [
      { expr: 'xtreemos_mount_holder_mounts', legend: '{{instance}} {{state}}' },
      { expr: 'xtreemos_mount_holder_takeovers', legend: '{{instance}} take-overs' },
    ],
  },
  {
    title: 'How long the kubelet waits for volumes',
    about: '99 of 100 calls are faster.',
    unit: 's',
    queries: [
      {
        expr: 'histogram_quantile(0.99, sum by (le, method) (rate(xtreemos_csi_call_seconds_bucket[$__rate_interval])))',
        legend: '{{method}}',
      },
    ],
  },
];

/** @param notice - who made the file. */
export function fileSystemDashboard(notice: string): Readonly<Record<string, unknown>> {
  return {
    title: 'XtreemOS: file systems and volumes',
    uid: 'xtreemos-file-systems',
    description: notice,
    tags: ['xtreemos'],
    schemaVersion,
    refresh: '30s',
    time: { from: 'now-6h', to: 'now' },
    templating: {
      list: [{ name: 'datasource', label: 'Prometheus', type: 'datasource', query: 'prometheus' }],
    },
    panels: panels.map(panelOf),
  };
}

function panelOf({ title, about, unit, queries }: PanelTerms, index: number): Readonly<Record<string, unknown>> {
  return {
    id: index + 1,
    type: 'timeseries',
    title,
    description: about,
    datasource,
    gridPos: { ...panelSize, x: (index % columns) * panelSize.w, y: Math.floor(index / columns) * panelSize.h },
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    targets: queries.map(({ expr, legend }, at) => ({
      refId: String.fromCharCode('A'.charCodeAt(0) + at),
      datasource,
      expr,
      legendFormat: legend,
    })),
  };
}
