/**
 * The sandbox ladder: bubblewrap, else `unshare`, else none. A rung counts only if a trial program
 * really ran in it on this machine.
 *
 * S1: which rung a check ran on is part of its result.
 * S2: without a rung nothing runs unless the caller says so: here the decision is only carried out.
 */
import { chmod, mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { removeTree } from '../../../runtime/remove-tree.ts';
import { runProgram } from '../../../runtime/run-program.ts';
import { sandboxTrouble } from '../../../runtime/sandbox-trouble.ts';
import {
  bubblewrapArguments,
  insideCommand,
  limitedCommand,
  SANDBOX_LIMITS,
  type SandboxLimits,
  type SandboxPlan,
  unshareArguments,
  unshareScript,
  WORK,
} from '../sandbox-plan.ts';
import { seccompFilter } from '../seccomp-filter.ts';
import { confined } from './confine.ts';
import { type ContainedResult, type ContainedRun, HELPERS, runContained } from './contained-run.ts';
import type { ControlGroups } from './control-groups.ts';
import { type SandboxView, sandboxView } from './sandbox-view.ts';

export type SandboxRung = 'bwrap' | 'unshare' | 'none';

export interface SandboxRun {
  /** Everything in it belongs to the program from here on. */
  readonly work: string;
  readonly command: readonly string[];
  readonly view: SandboxView;
  readonly limits?: Partial<SandboxLimits>;
  readonly signal?: AbortSignal;
}

export interface Sandbox {
  readonly rung: SandboxRung;
  /** One sentence: which rung, and why not a higher one. */
  readonly account: string;
  /** What helps to reach a rung at all. */
  readonly remedy: string;
  run(run: SandboxRun): Promise<ContainedResult>;
}

export interface SandboxOptions {
  /** A folder for roots under construction. */
  readonly scratch: string;
  /** The search path on which `bwrap`, `unshare` and `setpriv` are looked for. */
  readonly path: string;
  /** The interpreter by which programs are confined; null where there is none. */
  readonly python: string | null;
  readonly clock: Clock;
  /** Where the kernel bounds sums; null or absent: they are watched. */
  readonly groups?: ControlGroups | null;
  /** The rungs to try, best first. */
  readonly ladder?: readonly SandboxRung[];
}

interface Way {
  readonly rung: SandboxRung;
  /** As root the program becomes another user; otherwise a user namespace holds it. */
  readonly ownUser: boolean;
  /** A seccomp filter; null where there is none. */
  readonly filter: Uint8Array | null;
}

const TRIAL_TIMEOUT_MS = 10_000;
const CHOWN_TIMEOUT_MS = 120_000;
/** Users that own nothing: one per run, so that their processes are counted apart. */
const UID_FIRST = 61_000;
const UID_COUNT = 512;

export async function findSandbox(options: SandboxOptions): Promise<Sandbox> {
  const refused: string[] = [];
  for (const way of waysOf(options)) {
    const sandbox = sandboxOf(way, options, refused);
    if (way.rung === 'none' && way.filter === null) return sandbox;
    const failure = await trial(sandbox, options);
    if (failure === null) return sandbox;
    const user = way.ownUser ? ' as root' : '';
    const filter = way.filter === null ? '' : ' with a seccomp filter';
    refused.push(`${way.rung}${user}${filter}: ${failure}`);
  }
  return sandboxOf({ rung: 'none', ownUser: false, filter: null }, options, refused);
}

/** Each rung in each form, the strongest first. */
function waysOf({ ladder = ['bwrap', 'unshare', 'none'], python }: SandboxOptions): Way[] {
  const isLinux = process.platform === 'linux';
  const isRoot = process.getuid?.() === 0;
  return ladder.flatMap((rung): Way[] => {
    if (rung !== 'none' && !isLinux) return [];
    const users = rung !== 'none' && isRoot ? [true, false] : [false];
    // bubblewrap loads it by itself; on the other rungs Python does.
    const canFilter = isLinux && (rung === 'bwrap' || python !== null);
    const strict = { hidesMemory: false, namespaces: false };
    const filter = canFilter ? seccompFilter(process.arch, strict) : null;
    const filters = filter === null ? [null] : [filter, null];
    return users.flatMap(ownUser => filters.map(filter => ({ rung, ownUser, filter })));
  });
}

function sandboxOf(way: Way, options: SandboxOptions, refused: readonly string[]): Sandbox {
  let runs = 0;
  const why = refused.length === 0 ? '' : ` (${refused.join('; ')})`;
  return {
    rung: way.rung,
    account: `${SENTENCES[way.rung]}${way.filter === null ? ', without a seccomp filter' : ''}${why}`,
    remedy: remedyFor(refused),
    async run(run) {
      runs += 1;
      const limits = { ...SANDBOX_LIMITS, ...run.limits };
      const uid = way.ownUser ? UID_FIRST + (runs % UID_COUNT) : null;
      if (uid !== null) await giveAway(run.work, uid);
      const home = way.rung === 'none' ? join(run.work, '.home') : '/tmp';
      if (way.rung === 'none') await mkdir(home, { recursive: true });
      const environment = environmentOf(run.view, home);
      const { readOnly, links } = run.view;
      const { work, command } = run;
      const plan: SandboxPlan = { readOnly, links, work, command, environment, limits, uid };
      return launch(way, plan, options, run.signal);
    },
  };
}

function remedyFor(refused: readonly string[]): string {
  const hasBubblewrap = !refused.some(reason => /^bwrap.*ENOENT/.test(reason));
  return sandboxTrouble({ hasBubblewrap, said: refused.join('; ') }).fix;
}

async function giveAway(folder: string, uid: number): Promise<void> {
  const { failure } = await runProgram('chown', ['-R', `${uid}:${uid}`, folder], {
    timeoutMs: CHOWN_TIMEOUT_MS,
  });
  if (failure !== null) throw new CodeGodError('internal', `chown: ${failure}`);
}

const SENTENCES: Readonly<Record<SandboxRung, string>> = {
  bwrap: 'checks run in a bubblewrap sandbox',
  unshare: 'checks run in namespaces made with unshare',
  none: 'there is no sandbox on this machine',
};

function environmentOf(view: SandboxView, home: string): Record<string, string> {
  return {
    PATH: view.path,
    HOME: home,
    TMPDIR: home,
    LANG: 'C.UTF-8',
    TZ: 'UTC',
    CI: 'true',
    NO_COLOR: '1',
    PYTHONDONTWRITEBYTECODE: '1',
  };
}

async function launch(
  way: Way,
  plan: SandboxPlan,
  options: SandboxOptions,
  signal: AbortSignal | undefined,
): Promise<ContainedResult> {
  const { limits, work } = plan;
  const { path, clock, groups = null } = options;
  const tasksMax = limits.processesMax + HELPERS;
  // Where the kernel gives none after all, the sums are watched.
  const group = (await groups?.open({ ...limits, tasksMax }).catch(() => null)) ?? null;
  const outside = { cwd: '/', environment: { PATH: path }, limits, work, signal, third: null };
  try {
    return await inRung(way, plan, options, { ...outside, group }, part =>
      runContained(part, clock),
    );
  } finally {
    await group?.close();
  }
}

type Outside = Omit<ContainedRun, 'program' | 'args'>;

async function inRung(
  { rung, filter }: Way,
  plan: SandboxPlan,
  { python, scratch }: SandboxOptions,
  outside: Outside,
  run: (run: ContainedRun) => Promise<ContainedResult>,
): Promise<ContainedResult> {
  const cgroups = outside.group === null ? [] : [outside.group.members];
  if (rung === 'bwrap') {
    const args = bubblewrapArguments(plan, filter === null ? null : FILTER_DESCRIPTOR);
    const keep = filter === null ? [] : [FILTER_DESCRIPTOR];
    const command = confined(python, { program: 'bwrap', args }, { keep, cgroups });
    return run({ ...outside, ...command, third: filter });
  }
  if (rung === 'none') {
    const [program = 'sh', ...args] = limitedCommand(plan);
    const command = confined(python, { program, args }, { filter, cgroups });
    return run({ ...outside, cwd: plan.work, environment: plan.environment, ...command });
  }
  await mkdir(scratch, { recursive: true });
  const root = await mkdtemp(join(scratch, 'root-'));
  try {
    const inner = insideNamespaces(plan, unshareScript(plan, root), python, filter);
    const args = ['--pdeathsig', 'KILL', '--', 'unshare', ...unshareArguments(plan), ...inner];
    const command = confined(python, { program: 'setpriv', args }, { cgroups });
    return await run({ ...outside, ...command });
  } finally {
    await removeTree(root);
  }
}

/** Where bubblewrap reads the filter. */
const FILTER_DESCRIPTOR = 3;

/** The new root is built first, which the filter would forbid; then it is loaded. */
function insideNamespaces(
  plan: SandboxPlan,
  script: string,
  python: string | null,
  filter: Uint8Array | null,
): string[] {
  const [program = 'env', ...args] = insideCommand(plan);
  if (python === null) return ['sh', '-c', script, 'inside', program, ...args];
  const setup = { command: ['sh', '-c', script, 'inside', 'true'], cwd: WORK };
  const command = confined(python, { program, args }, { setup, filter });
  return [command.program, ...command.args];
}

/** Null where a trial program ran; otherwise why not. */
async function trial(sandbox: Sandbox, options: SandboxOptions): Promise<string | null> {
  const view = await sandboxView({ node: process.execPath, python: null });
  await mkdir(options.scratch, { recursive: true });
  const work = await mkdtemp(join(options.scratch, 'trial-'));
  try {
    await chmod(work, 0o755);
    const command = ['sh', '-c', 'echo ready > done && cat done'];
    const limits = { timeoutMs: TRIAL_TIMEOUT_MS };
    const result = await sandbox.run({ work, command, view, limits });
    if (result.exitCode === 0 && result.output === 'ready\n') return null;
    return result.output.trim().split('\n').at(-1)?.slice(0, 200) || `ended with ${result.end}`;
  } finally {
    await removeTree(work);
  }
}
