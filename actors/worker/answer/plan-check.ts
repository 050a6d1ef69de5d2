/**
 * The check command of a plan as a list of words, from what models write instead: one string, a list
 * with one string, a list of commands, a line of a shell.
 *
 * K2: steps that only install are dropped: a check has no network, and what a manifest names is there
 *     before it runs. What then needs a shell gets one, in so many words.
 */
import { isRecord } from './answer.ts';

const TIMEOUT_S = 120;
const COMMAND_LENGTH_MAX = 1_024;

export function checkOf(given: unknown): unknown {
  if (isRecord(given)) {
    const seconds = Number(textOf(given['timeout_s'] ?? given['timeout']) || TIMEOUT_S);
    const bounded = Number.isFinite(seconds)
      ? Math.min(3_600, Math.max(1, Math.ceil(seconds)))
      : TIMEOUT_S;
    const command = given['command'] ?? given['cmd'] ?? given['run'] ?? given['commands'];
    const args = given['args'];
    const words = Array.isArray(args) && typeof command === 'string' ? [command, ...args] : command;
    return { ...given, command: wordsOf(words), timeout_s: bounded };
  }
  if (typeof given === 'string' || Array.isArray(given)) {
    return { command: wordsOf(given), timeout_s: TIMEOUT_S };
  }
  return given;
}

const textOf = (value: unknown): string =>
  typeof value === 'string' ? value : typeof value === 'number' ? String(value) : '';

function wordsOf(command: unknown): unknown {
  if (typeof command === 'string') return wordsOfLine(command);
  if (!Array.isArray(command) || !command.every(word => typeof word === 'string')) return command;
  const words: string[] = command;
  if (words.length === 1) return wordsOfLine(words[0] ?? '');
  // A list of whole commands, one after the other.
  if (words.every(word => /\s/.test(word.trim()))) return wordsOfLine(words.join(' && '));
  const shell = /^(?:\/(?:usr\/)?bin\/)?(?:sh|bash|zsh)$/.test(words[0] ?? '');
  if (shell && words.length === 3 && /^-[el]*c$/.test(words[1] ?? '')) {
    const line = wordsOfLine(words[2] ?? '');
    return Array.isArray(line) && line[0] === 'sh' ? [...words.slice(0, 2), line[2]] : line;
  }
  return words.some(word => word === '&&' || word === ';') ? wordsOfLine(words.join(' ')) : words;
}

/** Steps that bring in what the check needs, and do nothing else. */
const INSTALLS =
  /^(?:(?:npm|pnpm) (?:install|i|ci)|yarn(?: install)?|bun install|(?:python3? -m )?pip3? install|uv (?:sync|venv|pip install)|poetry install|pipenv install|python3? -m venv|(?:source|\.) \S*activate|bundle install|composer install|go mod (?:download|tidy)|cargo fetch|corepack enable|apt(?:-get)? (?:update|install)|set -[a-z]+)\b/;

function wordsOfLine(line: string): unknown {
  // A check that cannot fail proves nothing.
  const text = line
    .trim()
    .replace(/^\$\s/, '')
    .replace(/\s?\|\|\s?(?:true|:|exit 0|echo\b[^|&;]*)$/, '');
  if (text === '' || text.length > COMMAND_LENGTH_MAX) return line;
  if (joinsInQuotes(text)) return ['sh', '-c', text];
  const steps = text
    .split(/&&|;|\n/)
    .map(step => step.trim())
    .filter(step => step !== '');
  const kept = steps.filter(step => !INSTALLS.test(step));
  const needed = kept.length > 0 ? kept : steps;
  const [only] = needed;
  if (needed.length === 1 && only !== undefined && !/[|&;<>$`\\*?(){}~]/.test(only)) {
    const words = (only.match(/"[^"]*"|'[^']*'|\S+/g) ?? []).map(unquoted);
    // Variables before a command are for `env`, which needs no shell.
    return /^[A-Za-z_]\w*=/.test(words[0] ?? '') ? ['env', ...words] : words;
  }
  return ['sh', '-c', needed.join(' && ')];
}

/** Whether a mark that joins commands may stand in quotes, where it joins nothing. */
function joinsInQuotes(text: string): boolean {
  const first = text.search(/["']/);
  const last = Math.max(text.lastIndexOf('"'), text.lastIndexOf("'"));
  return first !== last && /[&;]/.test(text.slice(first, last));
}

const unquoted = (word: string): string => word.replace(/^(["'])(.*)\1$/, '$2');
