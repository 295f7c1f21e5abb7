/**
 * The layers of the house (CONTRIBUTING.md, "Layout"). Lower rooms may import higher ones, never the reverse;
 * operator, selector, xtreemfs and nodeagent meet only through crds, proto and common, and through the client library of xtreemfs.
 */
const rooms = [
  'common',
  'proto',
  'crds',
  'xtreemfs',
  'selector',
  'operator',
  'nodeagent',
  'cli',
  'charts',
  'e2e',
  'bench',
  'hack',
];
const tests = '\\.(test|envtest|e2e|cases)\\.ts$|/testing/';
const only = (room, allowed) => ({
  name: `${room}-imports`,
  severity: 'error',
  comment: `${room}/ may import only: ${[room, ...allowed].join(', ')}`,
  from: { path: `^${room}/`, pathNot: tests },
  to: { path: `^(${rooms.filter((other) => other !== room && !allowed.includes(other)).join('|')})/` },
});
module.exports = {
  forbidden: [
    {
      name: 'no-circular',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'no-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'no-dev-dependency-in-product',
      severity: 'error',
      from: { path: '^(common|crds/src|proto|xtreemfs|selector|operator|nodeagent|cli)/', pathNot: tests },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'client-node-in-runtime-only',
      severity: 'error',
      from: { pathNot: '^common/runtime/' },
      to: { path: 'node_modules/@kubernetes/client-node' },
    },
    {
      name: 'common-below-runtime',
      severity: 'error',
      from: { path: '^common/(?!runtime)' },
      to: { path: '^common/runtime/' },
    },
    only('common', []),
    only('proto', ['common']),
    only('crds', ['common']),
    only('xtreemfs', ['common', 'proto']),
    only('selector', ['common', 'proto', 'crds']),
    only('operator', ['common', 'proto', 'crds', 'xtreemfs']),
    {
      name: 'operator-is-a-client-of-xtreemfs',
      severity: 'error',
      comment: 'operator/ may import only the client library of xtreemfs/',
      from: { path: '^operator/', pathNot: tests },
      to: { path: '^xtreemfs/(?!client/|rpc/)' },
    },
    only('nodeagent', ['common', 'proto', 'crds', 'xtreemfs']),
    only('cli', ['common', 'proto', 'crds', 'xtreemfs']),
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: 'specify',
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.mjs', '.json'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default'],
    },
  },
};
