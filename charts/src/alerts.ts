/** Alerts of file systems and volumes, as Prometheus takes them. */

/** One alert. */
export interface AlertRule {
  readonly alert: string;
  /** PromQL. */
  readonly expr: string;
  readonly for: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: { readonly summary: string; readonly description: string };
}

const warning = { severity: 'warning' };
const critical = { severity: 'critical' };

/** Part of requests of a server that took longer than a bound. @param seconds - one of the bounds that servers count by. */
function slowPart(seconds: string): string {
  const of = (series: string): string => `sum by (namespace, pod, server) (rate(${series}[10m]))`;
  const metric = 'xtreemos_xtreemfs_call_duration_seconds';
  return `1 - ${of(`${metric}_bucket{le="${seconds}"}`)} / ${of(`${metric}_count`)}`;
}

/** The groups of a PrometheusRule. */
export function alertRules(): { name: string; rules: AlertRule[] }[] {
  return [
    { name: 'xtreemos-space', rules: spaceRules() },
    { name: 'xtreemos-replicas', rules: replicaRules() },
    { name: 'xtreemos-requests', rules: requestRules() },
  ];
}

function spaceRules(): AlertRule[] {
  const freePart = 'xtreemos_osd_disk_free_bytes / xtreemos_osd_disk_size_bytes';
  return [
    {
      alert: 'XtreemFSOsdNearlyFull',
      expr: `${freePart} < 0.1`,
      for: '15m',
      labels: warning,
      annotations: {
        summary: 'OSD {{ $labels.pod }} has less than a tenth of its space left',
        description: 'Raise osds.count of the FileSystem, or have what is not needed deleted.',
      },
    },
    {
      alert: 'XtreemFSOsdFull',
      expr: `${freePart} < 0.03`,
      for: '5m',
      labels: critical,
      annotations: {
        summary: 'OSD {{ $labels.pod }} is full',
        description: 'Writes to files on it fail with "no space left". Raise osds.count, or have files deleted.',
      },
    },
  ];
}

function replicaRules(): AlertRule[] {
  return [
    {
      alert: 'XtreemFSOsdsAway',
      expr: 'xtreemos_file_system_osds{state="away"} > 0',
      for: '15m',
      labels: critical,
      annotations: {
        summary: '{{ $value }} OSDs of FileSystem {{ $labels.file_system }} do not serve',
        description: 'Files that lie on them alone wait, others have fewer replicas. See the pods and their nodes.',
      },
    },
    {
      alert: 'XtreemFSReplicasLost',
      expr: 'xtreemos_file_system_osds{state="lost"} > 0',
      for: '5m',
      labels: critical,
      annotations: {
        summary: 'FileSystem {{ $labels.file_system }} has lost the disks of {{ $value }} OSDs',
        description:
          'The directory knows them, and no pod has their folder any more. Bring the volume of the claim back: files without other replicas are on it alone.',
      },
    },
    {
      alert: 'XtreemFSDamage',
      expr: 'xtreemos_osd_damaged_files > 0',
      for: '0m',
      labels: critical,
      annotations: {
        summary: 'OSD {{ $labels.pod }} holds {{ $value }} damaged files',
        description: 'Its status page names them. Check the disk; restore the files from replicas or a backup.',
      },
    },
  ];
}

function requestRules(): AlertRule[] {
  return [
    {
      alert: 'XtreemFSRequestsSlow',
      expr: `(${slowPart('1')}) > 0.05`,
      for: '15m',
      labels: warning,
      annotations: {
        summary: 'More than 5 % of the requests to {{ $labels.pod }} take longer than a second',
        description: 'See the dashboard for which, and the disk and the processor of its node.',
      },
    },
    {
      alert: 'XtreemOSMountsDown',
      expr: 'xtreemos_mount_holder_mounts{state="starting"} > 0',
      for: '10m',
      labels: warning,
      annotations: {
        summary: '{{ $value }} mounts of volumes on {{ $labels.instance }} do not serve',
        description: 'Pods with these volumes wait. See the log of the mount holder of the node.',
      },
    },
    {
      alert: 'XtreemOSVolumeCallsFail',
      expr: 'sum by (instance) (rate(xtreemos_csi_call_seconds_count{code!="OK"}[10m])) > 0.1',
      for: '15m',
      labels: warning,
      annotations: {
        summary: 'Volumes on {{ $labels.instance }} can not be mounted or measured',
        description: 'Events of the pods and Volumes say why; so does the log of the node agent.',
      },
    },
  ];
}
