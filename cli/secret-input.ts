/**
 * A secret that is piped in or typed, so that it stands in no list of processes and no history of a
 * shell. Typed, it is not shown.
 */
import { readFileSync } from 'node:fs';
import { CliError } from './exit-code.ts';

const LENGTH_MAX = 4_096;
const CTRL_C = '\u0003';
const ENDS = new Set(['\r', '\n', '\u0004']);
const ERASES = new Set(['\u007f', '\b']);

export function readSecretFile(file: string): string {
  try {
    return firstLine(readFileSync(file, 'utf8'));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new CliError('usage', `${file} cannot be read: ${code}`);
  }
}

/** The first line of standard input; at a terminal it is asked for. */
export async function readSecret(question: string): Promise<string> {
  const { stdin } = process;
  if (stdin.isTTY) return await typed(question);
  let text = '';
  for await (const chunk of stdin.setEncoding('utf8')) {
    text += chunk;
    if (text.includes('\n') || text.length > LENGTH_MAX) break;
  }
  return firstLine(text);
}

const firstLine = (text: string): string => text.slice(0, LENGTH_MAX).split(/\r?\n/)[0] ?? '';

function typed(question: string): Promise<string> {
  const { stdin, stderr } = process;
  stderr.write(question);
  stdin.setRawMode(true).setEncoding('utf8').resume();
  return new Promise((resolve, reject) => {
    let text = '';
    const finish = (act: () => void): void => {
      stdin.off('data', take).off('error', reject).setRawMode(false).pause();
      stderr.write('\n');
      act();
    };
    const take = (chunk: string): void => {
      for (const letter of chunk) {
        if (letter === CTRL_C) {
          finish(() => reject(new CliError('interrupted', 'interrupted')));
          return;
        }
        if (ENDS.has(letter)) {
          finish(() => resolve(text));
          return;
        }
        text = ERASES.has(letter) ? text.slice(0, -1) : (text + letter).slice(0, LENGTH_MAX);
      }
    };
    stdin.on('data', take).on('error', reject);
  });
}
