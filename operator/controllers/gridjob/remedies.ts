/** What would help when nodes refuse for a reason, by the words that selectors use. */
const remedies: readonly (readonly [pattern: RegExp, remedy: string])[] = [
  [/^Not enough free (in that window: )?cpu/, 'Ask for less in template.resources.cpu, or wait until other work ends.'],
  [
    /^Not enough free (in that window: )?memory/,
    'Ask for less in template.resources.memory, or wait until other work ends.',
  ],
  [/^Not enough free/, 'Ask for less in template.resources, or wait until other work ends.'],
  [/^Not enough left of the reservation/, 'Wait until other work in the reservation ends, or reserve more slots.'],
  [
    /^Reserved later/,
    'Set deadlineSeconds, so that it ends before the reservation begins, or preemptible, so that it gives way then.',
  ],
  [/^Not so now: /, 'Loosen this expression in requirements.dynamic, or wait until it holds.'],
  [/^Can not tell: /, 'Correct this expression in requirements.dynamic: these nodes do not have what it names.'],
  [/holds \d+ claims/, 'Wait until other work ends on these nodes.'],
  [/just started/, 'Nothing: these nodes will answer in a moment.'],
  [/could not be (reached|asked)/, 'Nothing, if it passes; else see the selector on these nodes.'],
];

/** What a person can do about a refusal; undefined when nothing is known. */
export function remedyFor(sentence: string): string | undefined {
  return remedies.find(([pattern]) => pattern.test(sentence))?.[1];
}
