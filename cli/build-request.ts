/** A request to build, from the words, flags and files of the command line. */
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { BuildRequest } from '../protocol/build.ts';
import { CliError } from './exit-code.ts';

export interface BuildOptions {
  readonly file?: string;
  readonly stack?: 'node' | 'fastapi';
  readonly model?: string;
  readonly name?: string;
  readonly out?: string;
  readonly detach: boolean;
  readonly sandbox: boolean;
  readonly approve: boolean;
  /** Seconds. */
  readonly timeout?: number;
}

const BACKENDS = { node: 'Node.js', fastapi: 'FastAPI' } as const;

/** @throws CliError `usage` naming the field that is wrong */
export async function readRequest(
  words: readonly string[],
  options: BuildOptions,
): Promise<BuildRequest> {
  const prompt = await readPrompt(words, options.file);
  const parsed = BuildRequest.safeParse({
    prompt,
    name: options.name,
    model: options.model,
    tech_stack: options.stack === undefined ? undefined : { backend: BACKENDS[options.stack] },
    plan_mode: options.approve ? 'approve' : undefined,
  });
  if (parsed.success) return JSON.parse(JSON.stringify(parsed.data));
  const [issue] = parsed.error.issues;
  throw new CliError('usage', `${issue?.path.join('.')}: ${issue?.message}`);
}

async function readPrompt(words: readonly string[], file: string | undefined): Promise<string> {
  const given = words.join(' ');
  if (file !== undefined && given !== '') {
    throw new CliError('usage', 'a prompt and --file were given', 'leave one of them out');
  }
  if (file !== undefined && file !== '-') return readPromptFile(file);
  if (file === '-' || given === '-') return await text(process.stdin);
  if (given === '') {
    throw new CliError('usage', 'what should be built?', 'codegod build "Create a REST API for …"');
  }
  return given;
}

function readPromptFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CliError('usage', `${file} cannot be read: ${(error as Error).message}`);
  }
}
