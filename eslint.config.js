import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

const requestText = 'Import client-node only through #runtime: it owns connections, paging and retries (see docs/adr).';

export default defineConfig(
  globalIgnores(['node_modules', 'dist', 'coverage', '**/generated/**', 'bench/go']),
  { files: ['**/*.js'], extends: [js.configs.recommended] },
  {
    files: ['**/*.ts'],
    extends: [js.configs.recommended, tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-definitions': ['error', 'interface'],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', caughtErrors: 'none' }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: true }],
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/unified-signatures': 'off',
      'no-restricted-imports': ['error', { paths: [{ name: '@kubernetes/client-node', message: requestText }] }],
      'no-console': 'error',
      eqeqeq: 'error',
    },
  },
  { files: ['common/runtime/**/*.ts'], rules: { 'no-restricted-imports': 'off' } },
  { files: ['hack/**/*.ts', 'bench/**/*.ts', 'e2e/**/*.ts', 'cli/**/*.ts'], rules: { 'no-console': 'off' } },
  {
    files: ['**/*.test.ts', '**/*.prop.test.ts', '**/*.sim.test.ts', '**/*.envtest.ts', '**/*.e2e.ts', '**/*.cases.ts'],
    rules: { '@typescript-eslint/no-non-null-assertion': 'off', '@typescript-eslint/no-floating-promises': 'error' },
  },
);
