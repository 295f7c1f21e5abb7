import type { Surroundings } from '#operator/controllers/execution/surroundings.ts';

/** A site that takes the tasks of every member, and asks nothing more of their pods. */
export function openSurroundings(site: string, nodeExists: Surroundings['nodeExists']): Surroundings {
  return {
    nodeExists,
    of: async () =>
      Promise.resolve({
        status: 'ready',
        surroundings: {
          site,
          uidMode: 'Global',
          gids: [],
          runtimeClassName: undefined,
          dedicatedTo: undefined,
          home: undefined,
          gateway: undefined,
        },
      }),
  };
}
