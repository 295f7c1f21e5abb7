import { refuse } from '../core/errno.ts';

/** The start or end of an element. Text between elements means nothing in a dump and is skipped. */
export interface XmlEvent {
  readonly kind: 'start' | 'end';
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
}

/** Longest tag accepted, characters: an attribute's value has at most 64 KiB, in Base64. */
const tagLengthMax = 1024 * 1024;
const entities: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
const none: ReadonlyMap<string, string> = new Map();

/**
 * Reads the elements of an XML text that comes in pieces. Knows what dumps have: elements, attributes, the five entities and
 * character numbers, comments and the declaration; no DTD, so nothing can be made to grow or to be fetched.
 * @throws {PosixError} EINVAL when the text is not well-formed.
 */
export async function* readXml(pieces: AsyncIterable<string>): AsyncGenerator<XmlEvent> {
  let rest = '';
  for await (const piece of pieces) {
    rest += piece;
    let at = 0;
    for (;;) {
      const open = rest.indexOf('<', at);
      if (open < 0) {
        at = rest.length;
        break;
      }
      const isComment = rest.startsWith('<!--', open);
      const close = rest.indexOf(isComment ? '-->' : '>', open);
      if (close < 0) {
        at = open;
        if (rest.length - open > tagLengthMax) refuse('EINVAL', 'dump_file: a tag is too long');
        break;
      }
      at = close + (isComment ? 3 : 1);
      if (!isComment) yield* eventsOf(rest.slice(open + 1, close));
    }
    rest = rest.slice(at);
  }
  if (rest.trim() !== '') refuse('EINVAL', 'dump_file: it ends inside a tag');
}

function* eventsOf(tag: string): Generator<XmlEvent> {
  if (tag.startsWith('?')) return;
  if (tag.startsWith('!')) refuse('EINVAL', 'dump_file: a document type is not allowed');
  if (tag.startsWith('/')) {
    yield { kind: 'end', name: tag.slice(1).trim(), attributes: none };
    return;
  }
  const isEmpty = tag.endsWith('/');
  const match = /^([A-Za-z_][\w.-]*)([\s\S]*)$/.exec(isEmpty ? tag.slice(0, -1) : tag);
  const [, name = '', text = ''] = match ?? refuse('EINVAL', `dump_file: <${tag.slice(0, 40)}> is not a tag`);
  yield { kind: 'start', name, attributes: attributesOf(text) };
  if (isEmpty) yield { kind: 'end', name, attributes: none };
}

function attributesOf(text: string): ReadonlyMap<string, string> {
  const attributes = new Map<string, string>();
  const pattern = /\s+([A-Za-z_][\w.-]*)\s*=\s*(?:"([^"<]*)"|'([^'<]*)')/gy;
  let end = 0;
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    attributes.set(match[1] ?? '', unescape(match[2] ?? match[3] ?? ''));
    end = pattern.lastIndex;
  }
  if (text.slice(end).trim() !== '') refuse('EINVAL', `dump_file: ${text.slice(end, end + 40)} is not an attribute`);
  return attributes;
}

function unescape(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(
    /&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|([a-z]+));/g,
    (whole, hex?: string, decimal?: string, name?: string) => {
      if (name !== undefined) return entities[name] ?? refuse('EINVAL', `dump_file: ${whole} is not known`);
      const code = hex === undefined ? Number(decimal) : parseInt(hex, 16);
      return code <= 0x10ffff ? String.fromCodePoint(code) : refuse('EINVAL', `dump_file: ${whole} is no character`);
    },
  );
}
