/** The controller runtime: everything a controller, a manager's main function or a test imports. */
export * from './contracts.ts';
export * from './errors.ts';
export * from './kind.ts';
export * from './types.ts';
export * from './builtin.ts';
