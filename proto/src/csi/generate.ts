/**
 * Writes proto/src/csi/generated/schema.ts from proto/csi/*.proto, so that a bundle needs no .proto file beside it
 * (`make generate-csi`).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import protobuf from 'protobufjs';

const sources = ['proto/csi/csi.proto', 'proto/csi/registration.proto'];

/** The text of the generated file. @param root - folder of the project. */
export function renderSchema(root: string): string {
  const json = new protobuf.Root().loadSync(sources.map((source) => path.join(root, source))).toJSON();
  return (
    `// Generated from proto/csi/*.proto by proto/src/csi/generate.ts (make generate-csi). Do not edit.\n` +
    `/** The messages and services of csi.proto and registration.proto. */\nexport const schema = ${JSON.stringify(json, null, 1)};\n`
  );
}

if (import.meta.main) {
  const target = path.join(import.meta.dirname, 'generated');
  mkdirSync(target, { recursive: true });
  writeFileSync(path.join(target, 'schema.ts'), renderSchema(path.join(import.meta.dirname, '../../..')));
}
