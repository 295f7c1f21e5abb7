/** The controller runtime: everything that a controller, a manager's main function or a test imports. */
export * from './builtin.ts';
export { createClient, type ClientOptions } from './client.ts';
export * from './conditions.ts';
export { reconcileFields } from './context.ts';
export * from './contracts.ts';
export {
  type Credentials,
  type CredentialSource,
  defaultCredentials,
  inClusterCredentials,
  type InClusterOptions,
  isInCluster,
  kubeConfigCredentials,
  type KubeConfigOptions,
  type TlsMaterial,
} from './credentials.ts';
export * from './errors.ts';
export { referenceTo } from './events.ts';
export { Finalizers } from './finalizers.ts';
export type { ListenOptions } from './http-server.ts';
export * from './kind.ts';
export { LeadershipLostError, type LeaseOptions } from './lease.ts';
export { createManager, type ManagerOptions, type ManagerPorts } from './manager.ts';
export { createRuntimeMetrics, type RuntimeMetrics } from './metrics.ts';
export { terminationSignal } from './signals.ts';
export { mapped, owned } from './sources.ts';
export type { ThrottleOptions } from './throttle.ts';
export { HttpTransport, type Transport, type TransportOptions } from './transport.ts';
export * from './types.ts';
