import { InvalidInputError } from '#common/errors.ts';
import type { Context } from '../../frame/context.ts';

/** Each asks `xos __complete` with the words up to the cursor, and shows what it answers. */
const scripts: Readonly<Record<string, string>> = {
  bash: `# bash completion of xos
_xos() {
  local out directive value about
  out=$("\${COMP_WORDS[0]}" __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
  directive=\${out##*:}
  COMPREPLY=()
  while IFS=$'\\t' read -r value about; do
    [[ $value == :* ]] || COMPREPLY+=("$value")
  done <<<"$out"
  [[ $directive == 0 ]] && compopt -o default
  return 0
}
complete -F _xos xos
`,
  zsh: `#compdef xos
_xos() {
  local -a lines candidates
  local line value
  lines=("\${(@f)$("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for line in "\${lines[@]}"; do
    if [[ $line == :0 ]]; then _files; return; fi
    [[ $line == :* || -z $line ]] && continue
    value=\${line%%$'\\t'*}
    candidates+=("\${value//:/\\\\:}:\${line#*$'\\t'}")
  done
  _describe xos candidates
}
if [ "$funcstack[1]" = _xos ]; then _xos "$@"; else compdef _xos xos; fi
`,
  fish: `# fish completion of xos
function __xos_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    for line in ($words[1] __complete -- $words[2..] "$typed" 2>/dev/null)
        if test "$line" = ':0'
            __fish_complete_path "$typed"
        else if not string match -q ':*' -- $line
            echo $line
        end
    end
end
complete -c xos -f -a '(__xos_complete)'
`,
};

/** Prints the script of one shell. */
export async function printScript(context: Context, input: { readonly shell: string }): Promise<void> {
  const script = scripts[input.shell];
  if (script === undefined) {
    throw new InvalidInputError(
      'SHELL',
      `${JSON.stringify(input.shell)} is not one of ${Object.keys(scripts).join(', ')}`,
    );
  }
  context.terminal.print(script);
}
