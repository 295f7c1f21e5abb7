import type { IdentityMethods, RegistrationMethods } from '#proto/csi/schema.ts';
import type { Logger } from '#common/logger.ts';
import { csiDriverName } from '#crds/volume.ts';
import type { Handlers } from './server.ts';

/** The Identity service: who the driver is. @param isReady - whether calls can be served by now. */
export function identityService(version: string, isReady: () => boolean): Handlers<IdentityMethods> {
  return {
    GetPluginInfo: async () => Promise.resolve({ name: csiDriverName, vendorVersion: version }),
    GetPluginCapabilities: async () =>
      Promise.resolve({
        capabilities: [{ service: { type: 'CONTROLLER_SERVICE' } }, { volumeExpansion: { type: 'ONLINE' } }],
      }),
    Probe: async () => Promise.resolve({ ready: { value: isReady() } }),
  };
}

/**
 * The Registration service, which the kubelet asks when it finds our socket in its folder of plug-ins.
 * @param endpoint - socket of the CSI service, as the kubelet sees it.
 */
export function registrationService(endpoint: string, logger: Logger): Handlers<RegistrationMethods> {
  return {
    GetInfo: async () =>
      Promise.resolve({ type: 'CSIPlugin', name: csiDriverName, endpoint, supportedVersions: ['1.0.0'] }),
    NotifyRegistrationStatus: async ({ pluginRegistered, error }) => {
      if (pluginRegistered) logger.info('The kubelet has registered the driver');
      else logger.error('The kubelet did not register the driver', { reason: error });
      return Promise.resolve({});
    },
  };
}
