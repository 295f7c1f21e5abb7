/**
 * Writes proto/src/site/generated/schema.ts from proto/site/peer.proto, so that a bundle needs no .proto file
 * beside it (`make generate-site`).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import protobuf from 'protobufjs';

const source = 'proto/site/peer.proto';

/** The text of the generated file. @param root - folder of the project. */
export function renderSchema(root: string): string {
  const json = new protobuf.Root().loadSync(path.join(root, source)).toJSON();
  return (
    `// Generated from ${source} by proto/src/site/generate.ts (make generate-site). Do not edit.\n` +
    `/** The messages and services of peer.proto. */\nexport const schema = ${JSON.stringify(json, null, 1)};\n`
  );
}

if (import.meta.main) {
  const target = path.join(import.meta.dirname, 'generated');
  mkdirSync(target, { recursive: true });
  writeFileSync(path.join(target, 'schema.ts'), renderSchema(path.join(import.meta.dirname, '../../..')));
}
