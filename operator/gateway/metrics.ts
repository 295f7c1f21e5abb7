import { Counter, Gauge, Histogram, type Registry } from '#common/metrics.ts';

/** Metrics of the gateway. Labels are routes and words of ours, never names of users. */
export class GatewayMetrics {
  readonly requests: Counter<'route' | 'code'>;
  readonly seconds: Histogram<'route'>;
  readonly connections: Gauge;
  readonly refusedConnections: Counter<'reason'>;
  readonly logins: Counter<'method' | 'result'>;
  readonly tokens: Counter;
  readonly credentials: Counter;
  readonly sessions: Gauge;
  readonly certificateExpiry: Gauge;

  constructor(registry: Registry) {
    const registers = [registry];
    this.requests = new Counter({
      name: 'xtreemos_gateway_requests_total',
      help: 'Requests by route and by what became of them: OK, or the code of the refusal.',
      labelNames: ['route', 'code'],
      registers,
    });
    this.seconds = new Histogram({
      name: 'xtreemos_gateway_request_seconds',
      help: 'How long requests took, seconds.',
      labelNames: ['route'],
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 20],
      registers,
    });
    this.connections = new Gauge({ name: 'xtreemos_gateway_connections', help: 'Open connections.', registers });
    this.refusedConnections = new Counter({
      name: 'xtreemos_gateway_refused_connections_total',
      help: 'Connections that were closed before any request.',
      labelNames: ['reason'],
      registers,
    });
    this.logins = new Counter({
      name: 'xtreemos_gateway_logins_total',
      help: 'Steps of logins by method and result.',
      labelNames: ['method', 'result'],
      registers,
    });
    this.tokens = new Counter({ name: 'xtreemos_gateway_tokens_total', help: 'Access tokens minted.', registers });
    this.credentials = new Counter({
      name: 'xtreemos_gateway_kubernetes_credentials_total',
      help: 'Kubernetes credentials given out.',
      registers,
    });
    this.sessions = new Gauge({
      name: 'xtreemos_gateway_sessions',
      help: 'Sessions that hold (told by the leader).',
      registers,
    });
    this.certificateExpiry = new Gauge({
      name: 'xtreemos_gateway_certificate_expiry_seconds',
      help: 'When the serving certificate is over, seconds since the Unix epoch.',
      registers,
    });
  }
}
