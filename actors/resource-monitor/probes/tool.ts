/**
 * The vendors' command-line tools: run asynchronously, without input, for 5 s at most.
 *
 * T1: a tool that is not there, fails, hangs or is given up is a value, never an exception.
 */
import { runProgram } from '../../../runtime/run-program.ts';

const TIMEOUT_MS = 5_000;
const REASON_LENGTH_MAX = 300;

export type ToolResult =
  | { readonly kind: 'ok'; readonly stdout: string }
  | { readonly kind: 'missing' }
  /** What it printed may still hold good lines: a tool can fail for one card of several. */
  | { readonly kind: 'failed'; readonly reason: string; readonly stdout: string };

export type RunTool = (
  command: string,
  args: readonly string[],
  signal: AbortSignal,
) => Promise<ToolResult>;

/** @param env the environment of the tools; absent: that of this process */
export function toolRunner(env?: Readonly<Record<string, string | undefined>>): RunTool {
  return async (command, args, signal) => {
    try {
      const { stdout, exitCode, failure } = await runProgram(command, args, {
        timeoutMs: TIMEOUT_MS,
        signal,
        ...(env === undefined ? {} : { env }),
      });
      if (failure === null) return { kind: 'ok', stdout };
      if (exitCode === null && failure === 'not found') return { kind: 'missing' };
      return { kind: 'failed', reason: firstLine(failure), stdout };
    } catch (error) {
      if (!signal.aborted) throw error;
      return { kind: 'failed', reason: 'given up', stdout: '' };
    }
  };
}

export function firstLine(text: string): string {
  return (text.trim().split('\n')[0] ?? '').trim().slice(0, REASON_LENGTH_MAX);
}
