/**
 * The commands, their arguments and flags. Each command's code is imported when it runs, so that
 * `--help` costs little more than Node itself.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { packageRoot } from '../runtime/paths.ts';
import type { BuildOptions } from './build-request.ts';
import { type CommandContext, createContext } from './context.ts';
import { EXIT, exitCodeOf, toFailure } from './exit-code.ts';
import { createTerminal, type Terminal, type TextStream } from './terminal.ts';

export interface CliStreams {
  readonly stdout: TextStream;
  readonly stderr: TextStream;
}

type Handler = (context: CommandContext) => Promise<number>;
/** Hands a command's work over to be run with its context. */
type Run = (handler: Handler) => Promise<void>;

/** Runs one command line; answers its exit code and never throws. */
export async function runCli(
  argv: readonly string[],
  streams: CliStreams = process,
): Promise<number> {
  // Asked before parsing, since even a usage error is JSON where JSON was asked for.
  const isJson = argv.includes('--json');
  const terminal = createTerminal(isJson, streams.stdout, streams.stderr);
  let exitCode: number = EXIT.ok;
  const program = buildProgram(terminal, async handler => {
    exitCode = await handler(createContext(terminal, globalFlags(program)));
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

function version(): string {
  return JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')).version;
}

function buildProgram(terminal: Terminal, run: Run): Command {
  const program = new Command('codegod')
    .description('One prompt in, one finished and tested git project out.')
    .version(version())
    .option('--nats <url>', 'use this bus instead of an own one (CODEGOD_BUS_URL)')
    .option('--json', 'print JSON on stdout')
    .exitOverride()
    .configureOutput({
      writeOut: text => terminal.stdout.write(text),
      // Errors are told once, by `usage`; only the help of a missing command comes this way.
      writeErr: text => terminal.stderr.write(text),
      outputError: () => {},
    })
    .showSuggestionAfterError();
  buildCommands(program, run);
  systemCommands(program, run);
  return program;
}

/** A command that knows `--json` after its name as well. */
function command(program: Command, synopsis: string, description: string): Command {
  return program
    .command(synopsis)
    .description(description)
    .addOption(new Option('--json', 'print JSON on stdout'));
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

function seconds(text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('expected a number of seconds');
}

function systemCommands(program: Command, run: Run): void {
  command(program, 'up', 'start the system: the bus and the four actors')
    .option('-d, --detach', 'return when everything is ready', false)
    .action((options: { detach: boolean }) =>
      run(async context => (await import('./commands/up.ts')).up(context, options)),
    );
  program
    .command('supervise', { hidden: true })
    .action(() => run(async context => (await import('./commands/up.ts')).supervise(context)));
  command(program, 'down', 'stop the system; everything stays on disk').action(() =>
    run(async context => (await import('./commands/down.ts')).down(context)),
  );
  command(program, 'status', 'what runs here').action(() =>
    run(async context => (await import('./commands/status.ts')).status(context)),
  );
}
