/**
 * One jest project per tier (CONTRIBUTING.md, "Tests"). Native ESM: node runs with --experimental-vm-modules.
 */
const shared = {
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': ['@swc/jest', { jsc: { target: 'es2024', parser: { syntax: 'typescript' } }, sourceMaps: 'inline' }],
  },
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
};

const tier = (name, match, ignore = [], extra = {}) => ({
  ...shared,
  displayName: name,
  testMatch: match.map((pattern) => `<rootDir>/**/${pattern}`),
  testPathIgnorePatterns: ['/node_modules/', ...ignore],
  ...extra,
});

export default {
  watchman: false,
  projects: [
    tier('unit', ['*.test.ts'], ['\\.sim\\.test\\.ts$']),
    tier('sim', ['*.sim.test.ts']),
    tier('envtest', ['*.envtest.ts']),
    tier('e2e', ['*.e2e.ts'], ['/e2e/suites/reach/'], {
      globalSetup: '<rootDir>/e2e/setup.ts',
      globalTeardown: '<rootDir>/e2e/teardown.ts',
    }),
    tier('reach', ['e2e/suites/reach/*.e2e.ts']),
  ],
};
