/**
 * The closed list of everything that can go wrong, as users and other actors see it.
 *
 * Each code says when it happens, who handles it and what the user can do. Codes cross the wire and
 * are shown to people; local exceptions that are bugs are not in here.
 *
 * E1: a code is never removed or given another meaning, only added (golden test).
 */
import { z } from 'zod';

export interface ErrorDescription {
  /** The condition under which the code is given. */
  readonly when: string;
  /** Which part of the system acts on it. */
  readonly handledBy: string;
  /** What the person at the keyboard can do. */
  readonly userCan: string;
  /** True where the same request may succeed later without being changed. */
  readonly retryable: boolean;
  /** HTTP status at the HTTP door. */
  readonly http: number;
}

const code = (
  when: string,
  handledBy: string,
  userCan: string,
  http: number,
  retryable = false,
): ErrorDescription => ({ when, handledBy, userCan, http, retryable });

export const ERRORS = {
  // What came in was wrong.
  bad_message: code(
    'a message does not fit its schema or cannot be decoded',
    'the receiver rejects it and keeps it in CODEGOD_DEAD',
    'correct the fields named in the message',
    400,
  ),
  bad_request: code(
    'a request is well-formed but asks for something that cannot be',
    'the actor asked',
    'follow the sentence in the message',
    400,
  ),
  too_large: code(
    'a message, file or answer is over its limit',
    'the sender or the door that received it',
    'send less, or hand over large content as an artifact',
    413,
  ),
  unsupported_version: code(
    'a message is of a version that is neither ours nor the one before',
    'the receiver rejects it',
    'bring all nodes to the same release',
    400,
  ),
  unauthorized: code('a door asks for a key that was not given', 'the door', 'give the key', 401),
  denied: code(
    'a guard refused: a path outside the worktree, a private address, a forbidden argument',
    'the gateway refuses, the worker repairs its answer',
    'nothing; the attempt goes on with the refusal as its error text',
    403,
  ),
  not_found: code('there is nothing of that name or id', 'the actor asked', 'check the id', 404),
  conflict: code(
    'the thing asked for contradicts the present state',
    'the actor asked',
    'look at the present state and ask again',
    409,
  ),
  config_invalid: code(
    'a configuration file, variable or flag is wrong',
    'the process does not start',
    'correct the key named in the message',
    500,
  ),

  // Something the product stands on is missing.
  dependency_missing: code(
    'a program or environment that is needed is not there and could not be obtained',
    'the set-up stops',
    'run the command that the message names',
    503,
  ),
  port_in_use: code(
    'an explicitly configured port is taken',
    'the set-up stops',
    'free the port or configure another one',
    503,
  ),
  bus_unavailable: code(
    'the bus cannot be reached',
    'the client reconnects; the caller retries',
    'start the system with `codegod up`, or check the address of the bus',
    503,
    true,
  ),
  durability_refused: code(
    'the bus does not sync to disk or is too old, so accepted work could be lost',
    'the actor refuses to start',
    'set `jetstream { sync_interval: always }` on a nats-server of version 2.12 or newer',
    503,
  ),
  no_responders: code(
    'nobody serves the subject',
    'the caller retries or places elsewhere',
    'start the actor that is missing; `codegod status` names it',
    503,
    true,
  ),
  timeout: code(
    'an answer did not come in time',
    'the caller retries within its bound',
    'look at `codegod status`; raise the time limit where it is too short',
    504,
    true,
  ),
  cancelled: code('somebody cancelled it', 'the actor stops the work', 'nothing', 409),
  overloaded: code(
    'a bounded queue is full',
    'the caller waits and tries again',
    'wait, or raise the limit',
    503,
    true,
  ),
  rate_limited: code('a key is over a limit', 'the door', 'wait for Retry-After', 429, true),

  // Planning and placement.
  plan_invalid: code(
    'a plan breaks a rule: unknown or cyclic dependency, two owners of one file, an unsafe path',
    'the master asks for a repaired plan, at most twice',
    'make the prompt smaller or more definite, or use a larger model',
    422,
  ),
  unplannable: code(
    'no valid plan came out of the prompt',
    'the build fails',
    'read the reason; rephrase the prompt or install a larger model',
    422,
  ),
  scaffold_refused: code(
    'the scaffold engine has no recipe for what was asked',
    'the build fails with the reason',
    'ask for a service that keeps data, or install a model: `ollama pull qwen2.5-coder:7b`',
    422,
  ),
  no_capacity: code(
    'no node can hold any model that the task may use',
    'the build waits in waiting_capacity and says why',
    'free memory, add a node or choose a smaller model',
    503,
    true,
  ),
  reservation_refused: code(
    'a node declined to reserve memory for a task',
    'the master places elsewhere',
    'nothing',
    409,
    true,
  ),
  lease_lost: code(
    'work was done under a lease that is no longer current',
    'the result is dropped, its branch is kept',
    'nothing',
    409,
  ),

  // Models.
  model_missing: code(
    'the engine does not have the model',
    'the master places elsewhere or tells the user',
    'pull it: the message names the nearest installed one',
    404,
  ),
  engine_unavailable: code(
    'the model runtime cannot be reached or refuses work',
    'the master places elsewhere; no attempt is consumed',
    'start the runtime on that node',
    503,
    true,
  ),
  engine_failed: code(
    'the model runtime failed while loading or generating',
    'the worker retries once, then reports',
    'look at the log of the runtime',
    502,
    true,
  ),
  answer_truncated: code(
    'the prompt or the answer did not fit the context',
    'the worker reports; the next attempt takes a larger context',
    'use a model with a larger context',
    422,
    true,
  ),
  answer_invalid: code(
    'the text of a model does not fit the response contract, even after repair',
    'the next attempt quotes the error, then a larger model',
    'use a larger model',
    422,
    true,
  ),
  model_refused: code(
    'the model declared the task impossible',
    'the attempt fails with the reason',
    'read the reason; rephrase the prompt',
    422,
  ),

  // Tools.
  unknown_server: code(
    'there is no such tool server',
    'the worker repairs its answer',
    '`codegod mcp` lists the servers',
    404,
  ),
  unknown_tool: code(
    'the server has no such tool',
    'the worker repairs its answer with the nearest names',
    '`codegod mcp` lists the tools',
    404,
  ),
  invalid_arguments: code(
    "arguments do not fit the tool's live schema",
    'the worker repairs its answer with the schema',
    'nothing',
    422,
  ),
  tool_failed: code(
    'the tool ran and reported a failure',
    'the worker repairs its answer',
    'read the message of the tool',
    422,
  ),
  server_down: code(
    'a tool server is not running and could not be started',
    'the gateway restarts it with growing pauses',
    '`codegod mcp` shows the reason and the fix',
    503,
    true,
  ),
  outcome_unknown: code(
    'the process died between firing a tool and noting its result, and the effect cannot be checked',
    'the attempt is repeated in a fresh worktree; the call is never fired twice',
    'nothing',
    409,
    true,
  ),

  // Workspaces and checks.
  outside_owned: code(
    'an attempt changed files that its task does not own',
    'nothing is committed; the attempt is repeated with the error',
    'nothing',
    422,
  ),
  nothing_changed: code('an attempt changed no file', 'it counts as failed', 'nothing', 422),
  merge_conflict: code(
    'an attempt does not fit onto the present main branch',
    'the task is generated again on the new base',
    'nothing',
    409,
    true,
  ),
  stale_attempt: code(
    'a newer attempt of the same task has been merged',
    'the result is dropped',
    'nothing',
    409,
  ),
  checks_failed: code(
    "the project's own checks fail, or collect no test",
    'repair tasks, within their bound; then the build ends partial or failed',
    'read the output of the checks in `codegod show`',
    422,
  ),
  sandbox_required: code(
    'a model wrote the project and no sandbox is available to run its checks',
    'the build waits for a decision and then fails',
    'install bubblewrap, or allow it with --no-sandbox',
    503,
  ),
  disk_full: code(
    'a disk has no room left',
    'the step fails cleanly and is retried within its bound',
    'free disk space on the node named',
    507,
    true,
  ),
  budget_exceeded: code(
    'a build reached one of its limits: time, attempts, tokens',
    'the build ends with what is merged',
    'raise the limit in the request',
    422,
  ),

  // The log.
  log_corrupt: code(
    'a fact is missing or altered: the chain of hashes does not hold',
    'the build is set aside, never guessed at',
    'restore the stream from a backup; check the disk and the memory of that machine',
    500,
  ),
  wrong_last_sequence: code(
    'another writer appended to the log first',
    'the writer steps back: it is not the leader any more',
    'nothing',
    409,
  ),
  subject_full: code(
    'the message exists already: one subject holds one message',
    'the sender takes it as sent',
    'nothing',
    409,
  ),
  internal: code(
    'a bug: an assertion failed or an unexpected exception',
    'the process restarts; durable work goes on',
    'report it with the log of the process',
    500,
    true,
  ),
} as const satisfies Record<string, ErrorDescription>;

export type ErrorCode = keyof typeof ERRORS;

export const ERROR_CODES = Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]];

export const ErrorCode = z.enum(ERROR_CODES);
