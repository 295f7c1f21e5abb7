import manifest from '../package.json' with { type: 'json' };

/** Version of the product; programs, image and chart carry the same one. */
export const productVersion: string = manifest.version;
