/** `completion SHELL`: a script for the shell, written from the commands themselves. */
import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';

export type Shell = 'bash' | 'zsh' | 'fish';

export async function completion(
  context: CommandContext,
  shell: Shell,
  program: Command,
): Promise<number> {
  const commands = program.createHelp().visibleCommands(program);
  const script = shell === 'fish' ? fish(commands) : bash(commands, shell === 'zsh');
  context.terminal.result({ shell, script }, () => script.trimEnd());
  return EXIT.ok;
}

const flagsOf = (command: Command): string[] =>
  command.options.flatMap(option => [option.long, option.short]).filter(flag => flag != null);

function bash(commands: readonly Command[], isZsh: boolean): string {
  const cases = commands.map(
    command => `    ${command.name()}) words='${flagsOf(command).join(' ')} --help' ;;`,
  );
  return [
    ...(isZsh ? ['autoload -U +X bashcompinit && bashcompinit'] : []),
    '_codegod() {',
    "  local words=''",
    `  [ "$COMP_CWORD" -gt 1 ] && case "\${COMP_WORDS[1]}" in`,
    ...cases,
    '  esac',
    `  [ "$COMP_CWORD" -eq 1 ] && words='${commands.map(one => one.name()).join(' ')}'`,
    `  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))`,
    '}',
    'complete -o default -F _codegod codegod',
    '',
  ].join('\n');
}

function fish(commands: readonly Command[]): string {
  const quote = (text: string): string => `'${text.replaceAll("'", "\\'")}'`;
  return commands
    .flatMap(command => [
      `complete -c codegod -n __fish_use_subcommand -f -a ${command.name()} -d ${quote(command.description())}`,
      ...command.options.map(
        option =>
          `complete -c codegod -n '__fish_seen_subcommand_from ${command.name()}' ` +
          `-l ${option.long?.slice(2)} -d ${quote(option.description)}`,
      ),
      '',
    ])
    .join('\n');
}
