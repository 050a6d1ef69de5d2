/**
 * Runs a program to its end, with a bound on its time and its output.
 *
 * For short helpers: git, version checks, installers, probes of what the machine has. A program that
 * is missing, fails or takes too long is a value, not an exception; only an abort throws.
 */
import { type ChildProcess, startProgram } from './spawn.ts';

export interface ProgramResult {
  /** Exit code; null when it could not be started, was killed or took too long. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Why there is no exit code 0, in words; null when there is. */
  readonly failure: string | null;
  /** `exited` with whatever code; else why it did not come to that. */
  readonly end: 'exited' | 'not_found' | 'not_started' | 'timeout' | 'flood' | 'killed';
}

export interface ProgramOptions {
  readonly timeoutMs: number;
  /** Absent: what any program may know (runtime/config-environment.ts). */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly signal?: AbortSignal | undefined;
  /** What it reads; without it, nothing. */
  readonly input?: string | undefined;
  /** Of standard output and of standard error; default 4 MiB. */
  readonly outputBytesMax?: number;
  /** SIGTERM asks first, for programs that tidy up after themselves; default SIGKILL. */
  readonly killSignal?: 'SIGTERM' | 'SIGKILL';
  /** It goes on where we end first, and when its time is over. */
  readonly detached?: boolean;
}

const OUTPUT_BYTES_MAX = 4 * 1024 * 1024;
const FAILURE_LENGTH_MAX = 2_000;
/** How long a program that was asked to end may take. */
const POLITE_MS = 5_000;

/** Runs `file` with `args`, without a shell. Throws the abort reason when `signal` fires. */
export async function runProgram(
  file: string,
  args: readonly string[],
  options: ProgramOptions,
): Promise<ProgramResult> {
  const { signal } = options;
  signal?.throwIfAborted();
  const child = startProgram(file, args, {
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    ...(options.env ? { env: options.env } : {}),
    ...(options.cwd ? { cwd: options.cwd } : {}),
    detached: options.detached ?? false,
  });
  const run = new Run(child, options);
  const cancel = (): void => run.stop('killed');
  signal?.addEventListener('abort', cancel, { once: true });
  const result = await run.ended;
  signal?.removeEventListener('abort', cancel);
  signal?.throwIfAborted();
  return result;
}

class Run {
  readonly ended: Promise<ProgramResult>;
  readonly #child: ChildProcess;
  readonly #options: ProgramOptions;
  readonly #timers: NodeJS.Timeout[] = [];
  #stopped: ProgramResult['end'] | null = null;

  constructor(child: ChildProcess, options: ProgramOptions) {
    this.#child = child;
    this.#options = options;
    const stdout = this.#collect(child.stdout);
    const stderr = this.#collect(child.stderr);
    this.ended = new Promise(resolve => {
      const settle = (code: number | null, signal: string | null, error?: Error): void => {
        for (const timer of this.#timers) clearTimeout(timer);
        resolve(this.#result({ stdout: stdout(), stderr: stderr(), code, signal, error }));
      };
      child.once('error', error => {
        if (child.pid === undefined) settle(null, null, error);
      });
      child.once('close', (code, signal) => settle(code, signal));
    });
    child.stdin?.end(options.input);
    this.#timers.push(setTimeout(() => this.stop('timeout'), options.timeoutMs));
  }

  stop(why: ProgramResult['end']): void {
    if (this.#stopped !== null) return;
    this.#stopped = why;
    // Whoever it started may hold the pipes open for ever.
    const cut = (): void => {
      this.#child.stdout?.destroy();
      this.#child.stderr?.destroy();
    };
    const { killSignal = 'SIGKILL' } = this.#options;
    this.#child.kill(killSignal);
    if (killSignal === 'SIGKILL') cut();
    else this.#timers.push(setTimeout(() => this.#child.kill('SIGKILL') && cut(), POLITE_MS));
  }

  #collect(stream: ChildProcess['stdout']): () => string {
    const bytesMax = this.#options.outputBytesMax ?? OUTPUT_BYTES_MAX;
    const chunks: Buffer[] = [];
    let bytes = 0;
    stream?.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= bytesMax) chunks.push(chunk);
      else this.stop('flood');
    });
    return () => Buffer.concat(chunks).toString('utf8');
  }

  #result(ended: Ended): ProgramResult {
    const { code, signal, stdout, stderr } = ended;
    const end = this.#stopped ?? endOf(ended);
    const exitCode = end === 'exited' ? code : null;
    const said = (stderr.trim() || stdout.trim()).slice(-FAILURE_LENGTH_MAX);
    const after = said ? `: ${said}` : '';
    const words: Record<ProgramResult['end'], string> = {
      exited: said || `exit code ${code}`,
      not_found: 'not found',
      not_started: isErrno(ended.error, 'EACCES') ? 'not executable' : (ended.error?.message ?? ''),
      timeout: `no end within ${this.#options.timeoutMs / 1000} s${after}`,
      flood: `it printed too much${after}`,
      killed: said || `killed by ${signal}`,
    };
    return { exitCode, stdout, stderr, failure: exitCode === 0 ? null : words[end], end };
  }
}

interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number | null;
  readonly signal: string | null;
  readonly error?: Error | undefined;
}

function endOf({ code, error }: Ended): ProgramResult['end'] {
  if (error !== undefined) return isErrno(error, 'ENOENT') ? 'not_found' : 'not_started';
  return code === null ? 'killed' : 'exited';
}

const isErrno = (error: Error | undefined, name: string): boolean =>
  (error as NodeJS.ErrnoException | undefined)?.code === name;
