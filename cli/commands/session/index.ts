/** Declarations of `xos login` and what belongs to it. */
import { type Area, defineCommand } from '../../frame/command.ts';
import { choice, clusterOptions, flag, outputFormats, word, words } from '../../frame/options.ts';

const siteOption = { site: word('Site that is meant; default: the only one you are logged in at', 'SITE') };

const login = defineCommand({
  path: 'login',
  about: 'Log in at the gateway of a site, and set up kubectl for your virtual organizations',
  details: `Finds the gateway in the ConfigMap xtreemos-gateway of the namespace kube-public on the cluster of the current context, or at --gateway. Without a method, the one identity provider of the site is asked, or else your Kubernetes user is taken.

For each virtual organization that you may work in, the kubeconfig gets a context xos-SITE-VO with which plain kubectl acts as that member. The session is kept for you alone in $XDG_STATE_HOME/xos. With --vo it gives nothing for other organizations.

With --device you open a page of the gateway, which shows what asks, from where and for what, before you agree.`,
  args: {},
  options: {
    issuer: word('Log in with this OpenID provider of the site, by name or issuer', 'PROVIDER'),
    device: flag('Show a code to type in a browser on any device'),
    kubernetes: flag('Log in as the Kubernetes user of the current context'),
    certificate: word('File with a client certificate and its chain, PEM', 'FILE', { complete: 'file' }),
    key: word('File with the key of the certificate; default: in the same file', 'FILE', { complete: 'file' }),
    provider: word('Provider of the site that issued the certificate, where there are several', 'NAME'),
    gateway: word('HOST:PORT of the gateway, when the cluster is not at hand', 'ADDRESS'),
    ca: word('Root certificate of the gateway, PEM file', 'FILE', { complete: 'file' }),
    caFingerprint: word('SHA-256 fingerprint of the root certificate of the gateway', 'SHA256'),
    vo: words('Log in for these virtual organizations alone, and set up kubectl for them', 'VO', { complete: 'vo' }),
    skipContexts: flag('Leave the kubeconfig alone'),
    timeout: word('How long to wait for the browser; default: as long as the provider does', 'DURATION'),
    ...clusterOptions,
  },
  examples: [
    { does: 'at the cluster of the current context', line: 'login' },
    {
      does: 'with an OpenID provider, on a machine without a browser',
      line: 'login --issuer https://login.example.org --device',
    },
    { does: 'for one virtual organization alone', line: 'login --device --vo physics' },
    {
      does: 'without access to the cluster',
      line: 'login --gateway gateway.example.org:7443 --ca-fingerprint sha256:1f0a…',
    },
    { does: 'with a client certificate', line: 'login --certificate me.pem --key me-key.pem' },
  ],
  load: async () => (await import('./login.ts')).login,
});

const logout = defineCommand({
  path: 'logout',
  about: 'End the session at a site and remove its contexts',
  details: 'The session ends at the gateway too. Tokens for the API server that kubectl holds end within the hour.',
  args: {},
  options: { ...siteOption, all: flag('At every site'), kubeconfig: clusterOptions.kubeconfig },
  examples: [
    { does: 'where you are logged in', line: 'logout' },
    { does: 'everywhere', line: 'logout --all' },
  ],
  load: async () => (await import('./logout.ts')).logout,
});

const whoami = defineCommand({
  path: 'whoami',
  about: 'Show who you are, and where you are a member',
  args: {},
  options: { ...siteOption, output: choice('How to print it', 'FORMAT', outputFormats, 'table', { short: 'o' }) },
  examples: [{ does: 'principal, user names and groups', line: 'whoami' }],
  load: async () => (await import('./whoami.ts')).whoami,
});

const kubeCredential = defineCommand({
  path: 'kube-credential',
  about: 'Print a credential for the API server; kubectl calls it',
  details:
    'A credential plug-in of kubectl (client.authentication.k8s.io/v1). Asks the gateway only when the stored credential ends soon.',
  args: {},
  options: { site: word('Site', 'SITE'), vo: word('Virtual organization', 'VO') },
  examples: [{ does: 'what kubectl runs', line: 'kube-credential --site rennes --vo physics' }],
  load: async () => (await import('./kube-credential.ts')).kubeCredential,
});

/** Logging in and out. */
export const sessionArea: Area = { title: 'Session', commands: [login, logout, whoami, kubeCredential] };
