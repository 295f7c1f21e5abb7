/**
 * Writes selector/api/generated/schema.ts from proto/selector/selector.proto, so that a bundle needs no .proto file
 * beside it (`make generate-selector`).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import protobuf from 'protobufjs';

const source = 'proto/selector/selector.proto';
const target = 'selector/api/generated';
const root = new protobuf.Root().loadSync(source, { keepCase: false });
mkdirSync(target, { recursive: true });
const header = `// Generated from ${source} by selector/api/generate.ts (make generate-selector). Do not edit.\n`;
const body = `/** The messages and services of selector.proto. */\nexport const schema = ${JSON.stringify(root.toJSON(), null, 1)};\n`;
writeFileSync(`${target}/schema.ts`, header + body);
