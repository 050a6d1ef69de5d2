/**
 * Runs a project's own checks on a clean copy of main, in the sandbox, and says what came out.
 *
 * C1: the copy is thrown away: a check cannot change the project.
 * C2: a check of (build, round) runs once; its result is journalled and given again.
 * C3: a check that died with this process runs again: it has no effect outside its copy.
 * C4: without a sandbox only what the scaffold engine of this machine wrote runs, or everything where
 *     the owner of the machine has switched the sandbox off. Whoever asks has no say in it. Either way
 *     the result says so.
 */
import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import { buildKey, type StampedBuild } from '../../../protocol/ids.ts';
import { CHECK_OUTPUT_BYTES_MAX } from '../../../protocol/limits.ts';
import { CheckReply, type CheckRequest } from '../../../protocol/workspace.ts';
import type { Journal } from '../../../runtime/journal.ts';
import { GATEWAY_KEYS } from '../../../runtime/journal-keys.ts';
import { removeTree } from '../../../runtime/remove-tree.ts';
import { countTests, isPass, type TestCounts } from '../check-outcome.ts';
import { createKeyedQueue } from '../keyed-queue.ts';
import { createSlots } from '../slots.ts';
import type { ContainedResult } from './contained-run.ts';
import { onDisk } from './disk.ts';

import type { Sandbox } from './sandbox.ts';
import type { SandboxView } from './sandbox-view.ts';
import type { Workspaces } from './workspace.ts';

export interface CheckOptions {
  readonly workspaces: Pick<Workspaces, 'checkout'>;
  /** The best sandbox that this machine has by now. */
  readonly sandbox: () => Sandbox;
  /** Whether a build's project may run without any sandbox (C4). */
  readonly mayRunBare: (build: StampedBuild) => Promise<boolean>;
  /** What the command needs to see; makes the checks environment where it is one of Python. */
  readonly viewFor: (request: CheckRequest) => Promise<SandboxView>;
  readonly journal: Pick<Journal, 'get' | 'put'>;
  readonly scratch: string;
}

/** Each may use several processors; more would only make each other's time limits strike. */
const CHECKS_AT_ONCE = 2;

/** Results are kept by build and round. */
const checkKey = (request: StampedBuild & { readonly round: number }): string =>
  `${GATEWAY_KEYS.checks}${buildKey(request)}.${request.round}`;

export type Check = (request: CheckRequest, signal: AbortSignal) => Promise<CheckReply>;

/** @throws CodeGodError `sandbox_required`, `not_found`, `cancelled`, `disk_full`. */
export function createCheck(options: CheckOptions): Check {
  const queue = createKeyedQueue();
  const slots = createSlots(CHECKS_AT_ONCE);
  return (request, signal) =>
    queue.run(buildKey(request), async () => {
      const key = checkKey(request);
      const known = await options.journal.get(key); // C2
      if (known !== undefined) return CheckReply.parse(known);
      const release = await slots.take();
      try {
        const reply = await onDisk('checking', () => checkOnce(options, request, signal));
        await options.journal.put(key, reply);
        return reply;
      } finally {
        release();
      }
    });
}

async function checkOnce(
  options: CheckOptions,
  request: CheckRequest,
  signal: AbortSignal,
): Promise<CheckReply> {
  const sandbox = options.sandbox();
  if (sandbox.rung === 'none' && !(await options.mayRunBare(request))) {
    // C4
    throw new CodeGodError('sandbox_required', `a model wrote this project; ${sandbox.account}`, {
      hint: `${sandbox.remedy}; or set "sandbox: none" in the configuration of this machine`,
    });
  }
  await mkdir(options.scratch, { recursive: true });
  const folder = await mkdtemp(join(options.scratch, 'check-'));
  try {
    const work = join(folder, 'work'); // C1
    await mkdir(work);
    await options.workspaces.checkout(request, work);
    const view = await options.viewFor(request);
    const limits = { timeoutMs: request.timeout_s * 1_000 };
    const result = await sandbox.run({ work, command: request.command, view, limits, signal });
    if (result.end === 'cancelled') throw new CodeGodError('cancelled', 'the check was cancelled');
    return replyOf(request, sandbox, result);
  } finally {
    await removeTree(folder);
  }
}

function replyOf(request: CheckRequest, sandbox: Sandbox, result: ContainedResult): CheckReply {
  const counts = countTests(result.output);
  const exitCode = result.end === 'exited' ? result.exitCode : null;
  const passed = isPass(exitCode, counts);
  const notes = passed ? [] : notesOn(request, result, counts);
  if (sandbox.rung === 'none') notes.push('ran without a sandbox');
  const told = notes.map(note => `[check] ${note}\n`).join('');
  const text = result.output.endsWith('\n') || result.output === '' ? '' : '\n';
  return {
    round: request.round,
    command: request.command,
    passed,
    tests_passed: counts?.passed ?? 0,
    tests_failed: counts?.failed ?? 0,
    exit_code: exitCode,
    sandbox: sandbox.rung,
    duration_ms: Math.round(result.durationMs),
    output: tail(`${result.output}${text}`, CHECK_OUTPUT_BYTES_MAX - told.length) + told,
  };
}

function notesOn(
  request: CheckRequest,
  result: ContainedResult,
  counts: TestCounts | null,
): string[] {
  const notes: string[] = [];
  const ends: Partial<Record<ContainedResult['end'], string>> = {
    timeout: `ended after ${request.timeout_s} s`,
    memory: 'ended: it used too much memory',
    processes: 'ended: it started too many processes',
    disk: 'ended: it wrote too much into its folder',
    not_started: `${request.command[0]} could not be started`,
  };
  const end = ends[result.end];
  if (end !== undefined) notes.push(end);
  if (result.signal !== null && end === undefined) notes.push(`ended by ${result.signal}`);
  if (counts === null) notes.push('no summary of a known test runner was printed');
  else if (counts.passed + counts.failed === 0) notes.push('no test was collected');
  return notes;
}

function tail(text: string, bytesMax: number): string {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= bytesMax) return text;
  let start = bytes.length - bytesMax;
  while (start < bytes.length && ((bytes[start] ?? 0) & 0xc0) === 0x80) start++;
  return bytes.subarray(start).toString('utf8');
}
