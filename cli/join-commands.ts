/** The commands by which machines come together: who may join, joining, leaving. */
import { type Command, Option } from 'commander';
import { command, labels, type Run } from './command-line.ts';
import type { JoinOptions } from './commands/join.ts';
import type { TokenOptions } from './commands/token.ts';

export function joinCommands(program: Command, run: Run): void {
  tokenCommands(program.command('token'), run);
  command(program, 'join <url>', 'make this machine a node of the system on another one')
    .option(
      '--token <seed>',
      'what `codegod token create` printed there; - reads it from the input',
    )
    .option('--token-file <file>', 'a file that holds it; without both it is asked for')
    .option('--name <node>', 'the node that the token must admit')
    .addOption(new Option('--labels <list>', 'gpu=3090,room=attic').argParser(labels))
    .option('-d, --detach', 'return when everything is ready', false)
    .action((url: string, options: JoinOptions) =>
      run(async context => (await import('./commands/join.ts')).join(context, url, options)),
    );
  command(program, 'leave', 'stop being a node of another machine').action(() =>
    run(async context => (await import('./commands/leave.ts')).leave(context)),
  );
}

function tokenCommands(token: Command, run: Run): void {
  token.description('which machines may join the system of this one');
  command(token, 'create', 'let one more machine join; prints the line to type there')
    .option('--name <node>', 'what the machine is called in the system')
    .option('--expires <time>', '30d, 12h, 10m or a date; default: never')
    .action((options: TokenOptions) =>
      run(async context => (await import('./commands/token.ts')).createToken(context, options)),
    );
  command(token, 'list', 'the tokens that were made').action(() =>
    run(async context => (await import('./commands/token.ts')).listTokens(context)),
  );
  command(token, 'revoke <id>', 'put a machine out at once').action((id: string) =>
    run(async context => (await import('./commands/token.ts')).revokeToken(context, id)),
  );
}
