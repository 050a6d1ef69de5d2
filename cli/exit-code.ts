/**
 * The exit codes of every command, and how an error becomes one. Nothing heavy is imported here:
 * errors are recognised by their shape, so that `--help` does not load the schemas.
 */

export const EXIT = {
  ok: 0,
  /** The operation ran and failed. */
  failed: 1,
  usage: 2,
  /** The system, or something it stands on, cannot be reached. */
  unreachable: 3,
  unauthorized: 4,
  timeout: 124,
  interrupted: 130,
} as const;

/** An error as `--json` prints it: `{"error":{…}}`. */
export interface CliFailure {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

/** A failure that the command line itself has found. `code` is one of the wire's codes or `usage`. */
export class CliError extends Error {
  readonly code: string;
  readonly hint: string | null;

  constructor(code: string, message: string, hint: string | null = null) {
    super(message);
    this.name = 'CliError';
    this.code = code;
    this.hint = hint;
  }
}

const CODES: Readonly<Record<string, number>> = {
  usage: EXIT.usage,
  config_invalid: EXIT.usage,
  bad_request: EXIT.usage,
  bad_message: EXIT.usage,
  too_large: EXIT.usage,
  bus_unavailable: EXIT.unreachable,
  no_responders: EXIT.unreachable,
  dependency_missing: EXIT.unreachable,
  durability_refused: EXIT.unreachable,
  port_in_use: EXIT.unreachable,
  engine_unavailable: EXIT.unreachable,
  server_down: EXIT.unreachable,
  unauthorized: EXIT.unauthorized,
  denied: EXIT.unauthorized,
  timeout: EXIT.timeout,
  interrupted: EXIT.interrupted,
};

export function exitCodeOf(code: string): number {
  return CODES[code] ?? EXIT.failed;
}

/** Anything thrown, as a failure to show. What is neither ours nor the wire's says `internal`. */
export function toFailure(error: unknown): CliFailure {
  if (!(error instanceof Error)) return { code: 'internal', message: String(error), hint: null };
  const isOurs = error.name === 'CliError' || error.name === 'CodeGodError';
  const { code, hint } = error as { code?: unknown; hint?: unknown };
  if (isOurs && typeof code === 'string') {
    return { code, message: error.message, hint: typeof hint === 'string' ? hint : null };
  }
  return { code: 'internal', message: error.message, hint: null };
}
