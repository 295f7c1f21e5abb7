/**
 * Makes text of others harmless on a terminal: names, messages and logs may carry sequences that move the cursor,
 * rewrite what was printed, set the clipboard or turn the reading direction (CVE-2021-42574).
 */

/** C0 but none, DEL, C1, zero-width and bidirectional controls, line and paragraph separators, byte order mark. */
// eslint-disable-next-line no-control-regex -- control characters are what this is about
const unsafe = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** True when the text holds something that {@link escapeControls} would change. */
export function hasControls(text: string): boolean {
  return text.search(unsafe) >= 0;
}

/**
 * The text with every control character written as `\n`, `\t`, `\x1b` or `\u202e`.
 * @param keep - control characters to leave, for example `\n` in messages of several lines.
 */
export function escapeControls(text: string, keep = ''): string {
  return text.replace(unsafe, (character) => (keep.includes(character) ? character : escapeOf(character)));
}

/** The same for text that is JSON or double-quoted YAML already: only `\uXXXX`, which both read back. */
export function escapeInQuotes(text: string): string {
  return text.replace(unsafe, (character) => (character === '\n' ? character : unicodeEscape(character)));
}

function escapeOf(character: string): string {
  if (character === '\n') return '\\n';
  if (character === '\t') return '\\t';
  if (character === '\r') return '\\r';
  const code = character.charCodeAt(0);
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : unicodeEscape(character);
}

function unicodeEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
