import { z } from 'zod';
import { logLevels } from '#common/logger.ts';
import { option, type OptionValues } from '#common/options.ts';

const path = z.string().regex(/^\/[^\0]{0,4095}$/, 'use an absolute path');
const port = z.coerce.number().int('use a whole number').min(0).max(65_535);
const milliseconds = (least: number, most: number): z.ZodType<number> =>
  z.coerce.number().int('use a whole number').min(least).max(most);

const logLevel = option({ schema: z.enum(logLevels), about: 'How much is logged', default: 'info', value: 'LEVEL' });
const healthPort = option({
  schema: port,
  about: 'Port of /livez, /readyz and /metrics; 0 takes any free one',
  default: '8081',
  value: 'PORT',
});
const kubeconfig = option({
  schema: z.string().max(4096, 'use at most 4096 characters'),
  about: 'Path of a kubeconfig file; empty uses the account of the pod, or else KUBECONFIG',
  default: '',
  value: 'PATH',
});
const stateDir = option({
  schema: path,
  about: "Folder of the node that node agent and mount holder share: the holder's socket and the ids that were issued",
  default: '/var/lib/xtreemos',
  value: 'PATH',
});
const kubeletDir = option({
  schema: path,
  about: 'Root folder of the kubelet, at the same path here as on the node',
  default: '/var/lib/kubelet',
  value: 'PATH',
});

/** Options of `nodeagent agent`. */
export const agentOptions = {
  node: option({ schema: z.string().min(1).max(253), about: 'Name of this node', value: 'NAME' }),
  relay: option({
    schema: z
      .string()
      .max(259, 'use at most 259 characters')
      .regex(
        /^([A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5})?$/,
        'use host:port, for example xtreemos-relay.xtreemos-system.svc:7444',
      ),
    about:
      'Host and port where the gateway of this site takes mounts of volumes that other sites keep; empty: they are not mounted',
    default: '',
    value: 'HOST:PORT',
  }),
  ...{ kubeletDir, stateDir, kubeconfig, healthPort, logLevel },
};

/** Options of `nodeagent mount-holder`. */
export const holderOptions = {
  ...{ kubeletDir, stateDir, healthPort, logLevel },
  tlsDir: option({
    schema: path,
    about: 'Folder with tls.crt, tls.key and ca.crt for file systems that need certificates',
    default: '/etc/xtreemos/node',
    value: 'PATH',
  }),
  reachMs: option({
    schema: milliseconds(0, 600_000),
    about: 'How long servers may be away while a volume is being mounted, milliseconds',
    default: '60000',
    value: 'MS',
  }),
};

/** Options of `nodeagent csi-controller`. */
export const controllerOptions = {
  socket: option({
    schema: path,
    about: 'Where to listen for external-provisioner',
    default: '/run/csi/csi.sock',
    value: 'PATH',
  }),
  waitMs: option({
    schema: milliseconds(1_000, 600_000),
    about: 'How long a call waits for the operator, milliseconds',
    default: '45000',
    value: 'MS',
  }),
  ...{ kubeconfig, healthPort, logLevel },
};

/** Options of the programs of the node agent, by program. */
export type AgentOptions = OptionValues<typeof agentOptions>;
export type HolderOptions = OptionValues<typeof holderOptions>;
export type ControllerOptions = OptionValues<typeof controllerOptions>;
