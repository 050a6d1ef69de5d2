/** What the definitions of commands share: how one is declared, run, and how its values are read. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { CommandContext } from './context.ts';

export type Handler = (context: CommandContext) => Promise<number>;
/** Hands a command's work over to be run with its context. */
export type Run = (handler: Handler) => Promise<void>;

/** A command that knows `--json` after its name as well. */
export function command(program: Command, synopsis: string, description: string): Command {
  return program
    .command(synopsis)
    .description(description)
    .addOption(new Option('--json', 'print JSON on stdout'));
}

export function seconds(text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('expected a number of seconds');
}

export function count(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new InvalidArgumentError('expected a whole number');
}

/** `a,b` as a list without blanks. */
export const list = (text: string): string[] =>
  text
    .split(',')
    .map(one => one.trim())
    .filter(one => one !== '');

/** `room=attic,gpu=3090` as an object. */
export function labels(text: string): Record<string, string> {
  return Object.fromEntries(
    list(text).map(pair => {
      const [, key, value] = /^([^=]+)=(.+)$/.exec(pair) ?? [];
      if (key === undefined || value === undefined) {
        throw new InvalidArgumentError('expected labels like room=attic,gpu=3090');
      }
      return [key, value];
    }),
  );
}

/** A whole number from -100 to 100. */
export function priority(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && Math.abs(value) <= 100) return value;
  throw new InvalidArgumentError('expected a whole number from -100 to 100');
}
