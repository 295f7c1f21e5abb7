/**
 * undici's Agent without the rest of undici (fetch, caches, mocks), which would cost each process 13 MB.
 * The package has no `exports` map, so the file is part of what it publishes; the transport's tests notice a move.
 */
declare module 'undici/lib/dispatcher/agent.js' {
  export { Agent as default } from 'undici';
}
declare module 'undici/lib/dispatcher/proxy-agent.js' {
  export { ProxyAgent as default } from 'undici';
}
