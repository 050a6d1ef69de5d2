/**
 * The commands, their arguments and flags. Each command's code is imported when it runs, so that
 * `--help` costs little more than Node itself.
 */
import { Argument, Command, CommanderError, Option } from 'commander';
import type { Environment } from '../runtime/paths.ts';
import { release } from '../runtime/release.ts';
import type { BuildOptions } from './build-request.ts';
import { command, count, type Run, seconds } from './command-line.ts';
import type { Shell } from './commands/completion.ts';
import type { LogsOptions } from './commands/logs.ts';
import type { TestOptions } from './commands/test.ts';
import { createContext } from './context.ts';
import { EXIT, exitCodeOf, toFailure } from './exit-code.ts';
import { joinCommands } from './join-commands.ts';
import { poolCommands } from './pool-commands.ts';
import type { ActorsOf } from './supervisor/system.ts';
import { createTerminal, type Terminal, type TextStream } from './terminal.ts';

export interface CliWorld {
  readonly stdout: TextStream;
  readonly stderr: TextStream;
  /** What a system runs; for tests. Default: the four actors. */
  readonly actors?: ActorsOf;
  /** Default: that of the process. */
  readonly env?: Environment;
}

/** Runs one command line; answers its exit code and never throws. */
export async function runCli(argv: readonly string[], world: CliWorld = process): Promise<number> {
  // Asked before parsing, since even a usage error is JSON where JSON was asked for.
  const isJson = argv.includes('--json');
  const terminal = createTerminal(isJson, world.stdout, world.stderr);
  let exitCode: number = EXIT.ok;
  const program = buildProgram(terminal, async handler => {
    exitCode = await handler(createContext(terminal, globalFlags(program), world));
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return usage(error, terminal);
    const failure = toFailure(error);
    tellFailure(terminal, failure.code, failure.message, failure.hint);
    return exitCodeOf(failure.code);
  }
}

function usage(error: CommanderError, terminal: Terminal): number {
  if (error.exitCode === 0) return EXIT.ok; // --help and --version end this way.
  if (error.code === 'commander.help') return EXIT.usage; // No command: the help has been shown.
  tellFailure(terminal, 'usage', error.message.replace(/^error: /, ''), '`codegod --help`');
  return EXIT.usage;
}

function tellFailure(terminal: Terminal, code: string, message: string, hint: string | null): void {
  if (terminal.isJson) terminal.data({ error: { code, message, hint } });
  else terminal.note(`codegod: ${message}${hint === null ? '' : `\n${hint}`}`);
}

function globalFlags(program: Command): Record<string, unknown> {
  const { nats } = program.opts<{ nats?: string }>();
  return { 'bus.url': nats };
}

function buildProgram(terminal: Terminal, run: Run): Command {
  const program = new Command('codegod')
    .description('One prompt in, one finished and tested git project out.')
    .version(release())
    .option('--nats <url>', 'use this bus instead of an own one (CODEGOD_BUS_URL)')
    .option('--json', 'print JSON on stdout')
    .exitOverride()
    .configureOutput({
      writeOut: text => terminal.print(text),
      // Errors are told once, by `usage`; only the help of a missing command comes this way.
      writeErr: text => terminal.print(text, 'stderr'),
      outputError: () => {},
    })
    .showSuggestionAfterError();
  buildCommands(program, run);
  readCommands(program, run);
  controlCommands(program, run);
  poolCommands(program, run);
  systemCommands(program, run);
  busCommands(program, run);
  return program;
}

function buildCommands(program: Command, run: Run): void {
  command(program, 'build [prompt...]', 'build a project from a prompt (`-`: read it from stdin)')
    .option('--file <file>', 'read the prompt from a file')
    .option('--out <dir>', 'bring the finished project into this folder')
    .option('--name <name>', 'name of the project')
    .addOption(new Option('--stack <stack>', 'technology').choices(['node', 'fastapi']))
    .option('--model <model>', 'model that every task must use')
    .option('--no-sandbox', "run the checks of a model's project without a sandbox")
    .option('--approve', 'stop after planning until `codegod approve ID`', false)
    .option('--detach', 'print the id and return', false)
    .addOption(new Option('--timeout <seconds>', 'stop looking after this').argParser(seconds))
    .action((words: string[], options: BuildOptions) =>
      run(async context => (await import('./commands/build.ts')).build(context, words, options)),
    );
}

/** As in `protocol/model-profile.ts`, whose schemas are not loaded for a list of words. */

function readCommands(program: Command, run: Run): void {
  command(program, 'builds', 'builds, newest first')
    .addOption(new Option('--limit <n>', 'at most 200').argParser(count).default(50))
    .action((options: { limit: number }) =>
      run(async context => (await import('./commands/read.ts')).builds(context, options)),
    );
  command(program, 'show <id>', 'one build (`b42`, `42`, `latest`)').action((id: string) =>
    run(async context => (await import('./commands/read.ts')).show(context, id)),
  );
  command(program, 'logs [id]', 'what happened to one build, or to all')
    .option('-f, --follow', 'go on until the build ends, or Ctrl-C', false)
    .option('--since <time>', '10m, 2h, 1d or a date')
    .option('--actor <name>', 'the log file of an actor, `nats-server` or `supervisor` instead')
    .addOption(
      new Option('-n, --lines <n>', 'only the last; all of builds, 100 of an actor').argParser(
        count,
      ),
    )
    .action((id: string | undefined, options: LogsOptions) =>
      run(async context => (await import('./commands/logs.ts')).logs(context, id, options)),
    );
  command(program, 'archive <id>', 'a finished project as one tar.gz')
    .option('-o, --out <file>', 'where to write it; default NAME.tar.gz')
    .action((id: string, options: { out?: string }) =>
      run(async context => (await import('./commands/archive.ts')).archive(context, id, options)),
    );
  command(program, 'mcp', 'the tool servers').action(() =>
    run(async context => (await import('./commands/read.ts')).mcp(context)),
  );
}

const CONTROLS = {
  cancel: 'stop a build',
  approve: 'let a build go on that waits after planning',
  retry: 'try the failed tasks of a build again',
  pause: 'start no further task of a build',
  resume: 'let a paused build go on',
} as const;

function controlCommands(program: Command, run: Run): void {
  for (const [action, description] of Object.entries(CONTROLS)) {
    command(program, `${action} <id>`, description).action((id: string) =>
      run(async context => {
        const request = { action: action as keyof typeof CONTROLS };
        return (await import('./commands/control.ts')).control(context, id, request);
      }),
    );
  }
}

function busCommands(program: Command, run: Run): void {
  command(program, 'pub <subject> [body]', 'publish a message (`-`: read it from stdin)').action(
    (subject: string, body: string | undefined) =>
      run(async context => (await import('./commands/bus.ts')).pub(context, subject, body)),
  );
  command(program, 'req <subject> [body]', 'send a request and print the reply')
    .addOption(new Option('--timeout <seconds>').argParser(seconds).default(5))
    .action((subject: string, body: string | undefined, options: { timeout: number }) =>
      run(async context =>
        (await import('./commands/bus.ts')).req(context, subject, body, options),
      ),
    );
  command(program, 'sub <subject>', 'print messages as they come')
    .addOption(new Option('--count <n>', 'end after so many').argParser(count))
    .action((subject: string, options: { count?: number }) =>
      run(async context => (await import('./commands/bus.ts')).sub(context, subject, options)),
    );
}

function systemCommands(program: Command, run: Run): void {
  command(program, 'up', 'start the system: the bus and the four actors')
    .option('-d, --detach', 'return when everything is ready', false)
    .action((options: { detach: boolean }) =>
      run(async context => (await import('./commands/up.ts')).up(context, options)),
    );
  joinCommands(program, run);
  program
    .command('supervise', { hidden: true })
    .action(() => run(async context => (await import('./commands/up.ts')).supervise(context)));
  command(program, 'down', 'stop the system; everything stays on disk').action(() =>
    run(async context => (await import('./commands/down.ts')).down(context)),
  );
  command(program, 'status', 'what runs here').action(() =>
    run(async context => (await import('./commands/status.ts')).status(context)),
  );
  command(program, 'doctor', 'check everything the product stands on').action(() =>
    run(async context => (await import('./commands/doctor.ts')).doctor(context)),
  );
  const config = program.command('config').description('the configuration');
  command(config, 'show', 'every setting and its value')
    .option('--origin', 'where each value comes from', false)
    .action((options: { origin: boolean }) =>
      run(async context => (await import('./commands/config.ts')).showConfig(context, options)),
    );
  command(config, 'trust', 'let this folder set what sends secrets or work elsewhere')
    .option('--remove', 'trust it no longer', false)
    .action((options: { remove: boolean }) =>
      run(async context => (await import('./commands/config.ts')).trustProject(context, options)),
    );
  command(program, 'test [word]', 'run the tests of this checkout')
    .addOption(
      new Option('--retries <count>', 'run files that failed again, alone')
        .choices(['0', '1', '2', '3'])
        .default('0'),
    )
    .action((word: string | undefined, options: TestOptions) =>
      run(async context => (await import('./commands/test.ts')).runTests(context, word, options)),
    );
  command(program, 'completion', 'a completion script for your shell')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .action((shell: Shell) =>
      run(async context =>
        (await import('./commands/completion.ts')).completion(context, shell, program),
      ),
    );
}
