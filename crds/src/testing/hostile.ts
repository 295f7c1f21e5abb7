/** Objects that the schema of a kind lets through and nobody meant: every field at its bounds, strange text, references that dangle or run in circles. */
import type { Random } from '#common/random.ts';
import { readManifests } from './install.ts';

/** The part of a structural schema that matters here. */
interface Schema {
  readonly type?: string;
  readonly format?: string;
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly 'x-kubernetes-int-or-string'?: boolean;
}

const longest = 64;

const texts = [
  ...['', 'a', '-', 'x'.repeat(63), 'x'.repeat(4096), '__proto__', 'constructor', 'toString', 'hasOwnProperty', 'null'],
  ...[
    '\u202egnp.exe',
    '\ud800',
    '\u0000',
    'ѕуѕtеm',
    '👩‍👩‍👧',
    '\n\r\t',
    '\u001b[2J',
    '../..',
    '${x}',
    '{{.}}',
    '%n',
    '#',
    ':',
  ],
  ...[
    'system:masters',
    'https://issuer.example.org',
    'https://[::1]:0',
    'kubernetes:home',
    '/',
    '/a',
    '/a/b/c',
    '*',
    'u-alice-2013300123',
  ],
  ...['0', '0-4095', '999999', '5-1', '1,0', '0-4,2-9', '9999999', '-1', '1e999', '0.0.0.0/0', '::/0', '10.0.0.0/33'],
  ...[
    'true',
    '1 == 1',
    'node.cpu > 1',
    '((((',
    'a'.repeat(300),
    'sha256:' + '0'.repeat(64),
    'home',
    'physics',
    'vo-physics',
  ],
  ...[
    'busybox',
    'true',
    'requests.cpu',
    'r0',
    '00000000-0000-0000-0000-000000000000',
    'n1',
    'A',
    'Ready',
    'Succeeded',
    'Killed',
  ],
];
const times = [
  ...['0000-01-01T00:00:00Z', '1970-01-01T00:00:00Z', '2026-01-01T00:00:00Z', '9999-12-31T23:59:59Z'],
  ...['2026-06-30T23:59:59.999999999Z', '2026-01-01T00:00:00+23:59', '2024-02-29T00:00:00-12:00'],
];
const quantities = ['0', '1', '100m', '1Ki', '9223372036854775807', '1e18', '0.000000001', '8Ei', '1n', '00001', '2E2'];

/** Makes hostile objects of one kind, the same for the same seed. */
export class HostileObjects {
  private readonly schema: Schema;
  private readonly random: Random;
  private readonly patterns = new Map<string, RegExp>();
  private readonly names: readonly string[];

  /**
   * @param plural - of the kind, for example `gridjobs`.
   * @param names - of objects that references may mean.
   */
  constructor(plural: string, names: readonly string[], random: Random) {
    const manifest = readManifests().find(({ metadata }) => metadata?.name === `${plural}.xtreemos.io`);
    const spec = manifest?.spec as { versions: { schema: { openAPIV3Schema: Schema } }[] } | undefined;
    const schema = spec?.versions[0]?.schema.openAPIV3Schema;
    if (schema === undefined) throw new Error(`there is no kind ${plural}`);
    this.schema = schema;
    this.random = random;
    this.names = names;
  }

  /** A copy of a valid object with fields replaced, added and left out as the schema lets through. CEL rules aren't looked at. */
  of<T extends { readonly metadata: object }>(valid: T): T {
    const { properties } = this.schema;
    const { spec, status } = valid as { spec?: unknown; status?: unknown };
    const hostile = {
      spec: properties?.spec === undefined ? spec : this.changed(properties.spec, spec),
      status: properties?.status === undefined ? status : this.changed(properties.status, status ?? {}),
    };
    const labels = Object.fromEntries([[this.pick(texts), this.pick(texts)]]);
    const isBare = this.chance(0.3);
    const metadata = {
      ...valid.metadata,
      ...(this.chance(0.5) ? { labels, annotations: { ...labels, [this.pick(texts)]: this.pick(texts) } } : {}),
    };
    return { ...valid, ...hostile, metadata, ...(isBare ? { status: undefined } : {}) };
  }

  private changed(schema: Schema, value: unknown): unknown {
    if (Array.isArray(value)) return this.chance(0.5) ? value : (this.made(schema) ?? value);
    if (schema.properties === undefined || typeof value !== 'object' || value === null) {
      return this.chance(0.3) ? (this.made(schema) ?? value) : value;
    }
    const entries = Object.entries(schema.properties).flatMap(([name, part]): [string, unknown][] => {
      const before = (value as Readonly<Record<string, unknown>>)[name];
      const after =
        before === undefined ? (this.chance(0.3) ? this.made(part) : undefined) : this.changed(part, before);
      return after === undefined ? [] : [[name, after]];
    });
    return Object.fromEntries(entries);
  }

  /** A value that the schema lets through; undefined when none was found. */
  private made(schema: Schema): unknown {
    if (schema.enum !== undefined) return this.pick(schema.enum);
    if (schema['x-kubernetes-int-or-string'] === true) return this.pick([...quantities, 0, 1, 2 ** 31 - 1]);
    switch (schema.type) {
      case 'boolean':
        return this.chance(0.5);
      case 'integer':
      case 'number':
        return this.number(schema);
      case 'string':
        return this.text(schema);
      case 'array':
        return this.list(schema);
      case 'object':
        return this.object(schema);
      default:
        return undefined;
    }
  }

  private number({ minimum = -(2 ** 31), maximum = 2 ** 31 - 1 }: Schema): number {
    const candidates = [minimum, maximum, 0, 1, -1, minimum + this.random.int(1000)];
    return this.pick(candidates.filter((each) => each >= minimum && each <= maximum));
  }

  private text({ format, pattern, minLength = 0, maxLength = 8192 }: Schema): string | undefined {
    if (format === 'date-time') return this.pick(times);
    const pool = this.chance(0.5) ? this.names : texts;
    for (let attempt = 0; attempt < 12; attempt++) {
      const text = this.pick(attempt < 6 ? pool : [...texts, ...times, ...quantities]);
      const isFitting = text.length >= minLength && text.length <= maxLength;
      if (isFitting && (pattern === undefined || this.patternOf(pattern).test(text))) return text;
    }
    return undefined;
  }

  private list({ items, minItems = 0, maxItems = longest }: Schema): unknown[] | undefined {
    const size = Math.max(
      minItems,
      this.chance(0.02) ? Math.min(maxItems, longest) : Math.min(maxItems, this.random.int(4)),
    );
    const made = Array.from({ length: size }, () => this.made(items ?? {})).filter((each) => each !== undefined);
    return made.length < minItems ? undefined : made;
  }

  private object({ properties = {}, required = [], additionalProperties }: Schema): object | undefined {
    const entries: [string, unknown][] = [];
    for (const [name, part] of Object.entries(properties)) {
      const isRequired = required.includes(name) || 'default' in part;
      const value = isRequired || this.chance(0.4) ? this.made(part) : undefined;
      if (value !== undefined) entries.push([name, value]);
      else if (isRequired) return undefined;
    }
    if (additionalProperties !== undefined) {
      for (let i = this.random.int(4); i > 0; i--) entries.push([this.pick(texts), this.made(additionalProperties)]);
    }
    return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
  }

  private patternOf(pattern: string): RegExp {
    const known = this.patterns.get(pattern) ?? new RegExp(pattern, 'u');
    this.patterns.set(pattern, known);
    return known;
  }

  private chance(share: number): boolean {
    return this.random.next() < share;
  }

  private pick<T>(values: readonly T[]): T {
    return values[this.random.int(values.length)] as T;
  }
}
