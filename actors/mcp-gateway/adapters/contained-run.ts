/**
 * Runs one program to its end, whatever it does: bounded in time, memory, processes and output, and
 * nothing of it is left afterwards.
 *
 * R1: the program leads its own process group, which is killed at the end in every case.
 * R2: output is read always and kept only at its tail, so a flood neither blocks nor fills memory.
 * R3: where the kernel does not bound the sums of memory and processes (control-groups.ts), a watcher
 *     does: it counts the descendants every 200 ms and ends them all when they are too many or too
 *     large. Another one does so when their folder grows too large.
 */
import { readdir, readFile, statfs } from 'node:fs/promises';
import { Writable } from 'node:stream';
import type { Clock } from '../../../runtime/clock.ts';
import { type ChildProcess, startProgram } from '../../../runtime/spawn.ts';
import type { SandboxLimits } from '../sandbox-plan.ts';
import type { ControlGroup } from './control-groups.ts';
import { isErrno } from './disk.ts';
import { folderBytes } from './folder-bytes.ts';

export type RunEnd =
  | 'exited'
  | 'timeout'
  | 'memory'
  | 'processes'
  | 'disk'
  | 'cancelled'
  | 'not_started';

export interface ContainedResult {
  readonly end: RunEnd;
  /** Null where a signal ended it. */
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Standard output and error as they came, the last {@link OUTPUT_BYTES_MAX} bytes. */
  readonly output: string;
  readonly outputBytes: number;
  readonly durationMs: number;
}

export interface ContainedRun {
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly limits: SandboxLimits;
  /** The folder that it may write to. */
  readonly work: string;
  /** What it can read at descriptor 3; null where there is no such descriptor. */
  readonly third: Uint8Array | null;
  /** The control group that it enters; null where its sums have to be watched. */
  readonly group: ControlGroup | null;
  readonly signal?: AbortSignal | undefined;
}

export const OUTPUT_BYTES_MAX = 1024 * 1024;
const WATCH_EVERY_MS = 200;
/** How long after the end of the program its output may still trickle in. */
const DRAIN_MS = 500;

export async function runContained(run: ContainedRun, clock: Clock): Promise<ContainedResult> {
  const startedMs = clock.monotonic();
  const child = startProgram(run.program, run.args, {
    cwd: run.cwd,
    env: run.environment,
    detached: true, // R1
    stdio: ['ignore', 'pipe', 'pipe', ...(run.third === null ? [] : (['pipe'] as const))],
  });
  const third = child.stdio[3];
  if (third instanceof Writable) third.end(run.third);
  const output = tailOf(child);
  let end: RunEnd = 'exited';
  const stop = (why: RunEnd): void => {
    if (end !== 'exited') return;
    end = why;
    killGroup(child);
  };
  const cancel = (): void => stop('cancelled');
  const timer = clock.setTimeout(() => stop('timeout'), run.limits.timeoutMs);
  run.signal?.addEventListener('abort', cancel, { once: true });
  const watching = new AbortController();
  const watchers = [
    run.group === null
      ? watchProcesses(child, run.limits, clock, watching.signal, stop)
      : watchGroup(run.group, clock, watching.signal, stop),
    watchFolder(run, clock, watching.signal, stop),
  ];
  if (run.signal?.aborted === true) cancel();
  const { code, signal, failure } = await endOf(child);
  clock.clearTimeout(timer);
  run.signal?.removeEventListener('abort', cancel);
  watching.abort();
  await Promise.all(watchers);
  killGroup(child);
  await drained(child, clock);
  const { text, bytes } = output();
  return {
    end: failure === null ? end : 'not_started',
    exitCode: code,
    signal,
    output: failure === null ? text : `${text}${failure.message}\n`,
    outputBytes: bytes,
    durationMs: clock.monotonic() - startedMs,
  };
}

interface Ending {
  readonly code: number | null;
  readonly signal: string | null;
  readonly failure: Error | null;
}

function endOf(child: ChildProcess): Promise<Ending> {
  return new Promise(resolve => {
    child.once('exit', (code, signal) => resolve({ code, signal, failure: null }));
    child.once('error', failure => resolve({ code: null, signal: null, failure }));
  });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    // ESRCH: the whole group is gone already, which is what was wanted.
    if (!isErrno(error, 'ESRCH')) throw error;
  }
}

/** Whoever left the group may hold the pipes open for ever; after DRAIN_MS they are cut. */
async function drained(child: ChildProcess, clock: Clock): Promise<void> {
  const ends = [child.stdout, child.stderr].map(
    stream =>
      new Promise<void>(resolve => {
        if (stream === null || stream.closed) resolve();
        else stream.once('close', resolve);
      }),
  );
  const cut = clock.setTimeout(() => {
    child.stdout?.destroy();
    child.stderr?.destroy();
  }, DRAIN_MS);
  await Promise.all(ends);
  clock.clearTimeout(cut);
}

/** R2. */
function tailOf(child: ChildProcess): () => { text: string; bytes: number } {
  let chunks: Buffer[] = [];
  let kept = 0;
  let bytes = 0;
  const take = (chunk: Buffer): void => {
    chunks.push(chunk);
    kept += chunk.length;
    bytes += chunk.length;
    if (kept <= 2 * OUTPUT_BYTES_MAX) return;
    chunks = [Buffer.concat(chunks).subarray(-OUTPUT_BYTES_MAX)];
    kept = OUTPUT_BYTES_MAX;
  };
  child.stdout?.on('data', take);
  child.stderr?.on('data', take);
  return () => ({
    text: Buffer.concat(chunks).subarray(-OUTPUT_BYTES_MAX).toString('utf8'),
    bytes,
  });
}

/** R3. */
async function watchProcesses(
  child: ChildProcess,
  limits: SandboxLimits,
  clock: Clock,
  signal: AbortSignal,
  stop: (why: RunEnd) => void,
): Promise<void> {
  if (process.platform !== 'linux' || child.pid === undefined) return;
  while (!signal.aborted) {
    const { processes, bytes } = await descendants(child.pid);
    if (bytes > limits.memoryBytesMax) stop('memory');
    if (processes > limits.processesMax + HELPERS) stop('processes');
    await clock.sleep(WATCH_EVERY_MS, signal).catch(() => undefined); // Aborted: the loop ends.
  }
}

/** R3. Once more at the end: what the kernel has ended is gone before anybody looks. */
async function watchGroup(
  group: ControlGroup,
  clock: Clock,
  signal: AbortSignal,
  stop: (why: RunEnd) => void,
): Promise<void> {
  for (;;) {
    const isLast = signal.aborted;
    const met = await group.met();
    if (met !== null) stop(met);
    if (isLast) return;
    await clock.sleep(WATCH_EVERY_MS, signal).catch(() => undefined); // Aborted: one look more.
  }
}

/** How much less room on the disk makes a look into the folder worth its while. */
const LOOK_AFTER_SHARE = 0.25;
/** Others may make room meanwhile, so it is looked at from time to time anyway. */
const LOOK_EVERY_MS = 5_000;

/** R3. Looking into a large folder takes a while; how much room the disk has is known at once. */
async function watchFolder(
  { work, limits }: Pick<ContainedRun, 'work' | 'limits'>,
  clock: Clock,
  signal: AbortSignal,
  stop: (why: RunEnd) => void,
): Promise<void> {
  let roomThen = await room(work);
  let lookedMs = clock.monotonic();
  while (!signal.aborted) {
    await clock.sleep(WATCH_EVERY_MS, signal).catch(() => undefined); // Aborted: the loop ends.
    const roomNow = await room(work);
    const isDue =
      roomThen - roomNow > LOOK_AFTER_SHARE * limits.workBytesMax ||
      clock.monotonic() - lookedMs > LOOK_EVERY_MS;
    if (signal.aborted || !isDue) continue;
    if ((await folderBytes(work, limits.workBytesMax)) > limits.workBytesMax) stop('disk');
    roomThen = roomNow;
    lookedMs = clock.monotonic();
  }
}

/** Without a sandbox a program may take its own folder away: then nothing more is written to it. */
async function room(folder: string): Promise<number> {
  const found = await statfs(folder).catch(() => null);
  return found === null ? 0 : found.bavail * found.bsize;
}

/** The sandbox's own processes around the program. */
export const HELPERS = 4;

/** How many processes stand below `root`, and the memory that only they hold. */
async function descendants(root: number): Promise<{ processes: number; bytes: number }> {
  const children = new Map<number, number[]>();
  const memory = new Map<number, number>();
  const pids = (await readdir('/proc')).filter(name => /^[0-9]+$/.test(name));
  for (const name of pids) {
    // A process may end between the listing and the reading; then it does not count any more.
    const status = await readFile(`/proc/${name}/status`, 'utf8').catch(() => '');
    const parent = Number(/^PPid:\t([0-9]+)/m.exec(status)?.[1] ?? 0);
    const kib = ['RssAnon', 'RssShmem', 'VmSwap', 'HugetlbPages'].map(of =>
      Number(new RegExp(`^${of}:\\s+([0-9]+) kB`, 'm').exec(status)?.[1] ?? 0),
    );
    memory.set(Number(name), kib.reduce((sum, part) => sum + part, 0) * 1024);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found: number[] = [];
  for (const queue = [root]; queue.length > 0; ) {
    const pid = queue.pop() ?? 0;
    found.push(pid);
    queue.push(...(children.get(pid) ?? []));
  }
  const bytes = found.reduce((sum, pid) => sum + (memory.get(pid) ?? 0), 0);
  return { processes: found.length, bytes };
}
