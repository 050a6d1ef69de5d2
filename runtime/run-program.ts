/**
 * Runs a program to its end, with a bound on its time and its output.
 *
 * For short helpers: version checks, installers, probes of what the machine has. A program that is
 * missing, fails or takes too long is a value, not an exception; only an abort throws.
 */
import { type ExecFileException, execFile } from 'node:child_process';

export interface ProgramResult {
  /** Exit code; null when it could not be started, was killed or took too long. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Why there is no exit code 0, in words; null when there is. */
  readonly failure: string | null;
}

export interface ProgramOptions {
  readonly timeoutMs: number;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly signal?: AbortSignal | undefined;
}

const OUTPUT_BYTES_MAX = 4 * 1024 * 1024;
const FAILURE_LENGTH_MAX = 2_000;

/** Runs `file` with `args`, without a shell. Throws the abort reason when `signal` fires. */
export async function runProgram(
  file: string,
  args: readonly string[],
  options: ProgramOptions,
): Promise<ProgramResult> {
  options.signal?.throwIfAborted();
  const result = await new Promise<ProgramResult>(resolve => {
    const child = execFile(
      file,
      [...args],
      {
        encoding: 'utf8',
        timeout: options.timeoutMs,
        maxBuffer: OUTPUT_BYTES_MAX,
        killSignal: 'SIGKILL',
        windowsHide: true,
        ...(options.env ? { env: { ...options.env } } : {}),
        ...(options.cwd ? { cwd: options.cwd } : {}),
        ...(options.signal ? { signal: options.signal } : {}),
      },
      (error, stdout, stderr) => {
        const exitCode = error ? (typeof error.code === 'number' ? error.code : null) : 0;
        const failure = error ? describeFailure(error, stdout, stderr, options.timeoutMs) : null;
        resolve({ exitCode, stdout, stderr, failure });
      },
    );
    child.stdin?.end();
  });
  options.signal?.throwIfAborted();
  return result;
}

function describeFailure(
  error: ExecFileException,
  stdout: string,
  stderr: string,
  timeoutMs: number,
): string {
  if (String(error.code) === 'ENOENT') return 'not found';
  if (String(error.code) === 'EACCES') return 'not executable';
  const said = (stderr.trim() || stdout.trim()).slice(-FAILURE_LENGTH_MAX);
  if (error.killed) return `no end within ${timeoutMs / 1000} s${said ? `: ${said}` : ''}`;
  if (said) return said;
  return error.signal ? `killed by ${error.signal}` : `exit code ${String(error.code)}`;
}
