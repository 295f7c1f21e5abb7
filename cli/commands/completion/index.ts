import { type Area, defineCommand } from '../../frame/command.ts';
import { required, several } from '../../frame/options.ts';

const completion = defineCommand({
  path: 'completion',
  about: 'Print the completion script of a shell',
  details:
    'Completes commands, options and names that exist on the cluster. For kubectl xos, kubectl asks the program kubectl_complete-xos, which `make install-cli` puts beside xos.',
  args: { shell: required('bash, zsh or fish') },
  options: {},
  examples: [
    {
      does: 'bash: for this shell; put the line into ~/.bashrc for every one',
      line: 'completion bash > /tmp/xos.bash && . /tmp/xos.bash',
    },
    { does: 'zsh: into a folder of $fpath', line: 'completion zsh > ~/.zfunc/_xos' },
    { does: 'fish', line: 'completion fish > ~/.config/fish/completions/xos.fish' },
  ],
  load: async () => (await import('./scripts.ts')).printScript,
});

const candidates = defineCommand({
  path: '__complete',
  about: 'What may follow a line; for shells',
  args: { line: several('The words typed so far; the last may be empty') },
  options: {},
  examples: [{ does: 'what kubectl asks', line: "__complete -- vo list ''" }],
  isHidden: true,
  load: async () => (await import('./candidates.ts')).printCandidates,
});

/** Completion for shells. */
export const completionArea: Area = { title: 'Completion of command lines', commands: [completion, candidates] };
