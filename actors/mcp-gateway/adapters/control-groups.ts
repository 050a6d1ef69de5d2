/**
 * Control groups (cgroup v2): the kernel's own bounds for the sums of what one run takes, where a
 * group was given to us (systemd: `Delegate=yes`). Elsewhere sums are watched (contained-run.ts).
 *
 * G1: only a group is used that we may write to, that has the controllers of memory and of
 *     processes, and in which nobody is but our own system; and only after a trial in it.
 * G2: a group with controllers for its children holds no processes itself, so our system is moved
 *     into one of them.
 * G3: a run's group ends with the run, and everybody in it. What a crash has left is ended at the
 *     next start; groups of another home are left alone.
 */
import { createHash } from 'node:crypto';
import { access, constants, mkdir, open, readdir, readFile, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runProgram } from '../../../runtime/run-program.ts';
import { confined } from './confine.ts';
import { isErrno } from './disk.ts';

export interface GroupBounds {
  readonly memoryBytesMax: number;
  /** The kernel counts threads, too. */
  readonly tasksMax: number;
}

export interface ControlGroup {
  /** Who writes `0` to this file is in the group from then on. */
  readonly members: string;
  /** Which bound has been met; null: none. */
  met(): Promise<'memory' | 'processes' | null>;
  /** Ends everybody in it, and the group (G3). */
  close(): Promise<void>;
}

export interface ControlGroups {
  open(bounds: GroupBounds): Promise<ControlGroup>;
}

export interface FoundGroups {
  readonly groups: ControlGroups | null;
  /** One sentence: who bounds the sums, and why not the kernel. */
  readonly account: string;
}

export interface GroupSearch {
  /** Tells the groups of this home from others'. */
  readonly scratch: string;
  readonly python: string | null;
  /** The process that started our system. Default: our parent. */
  readonly top?: number;
}

const NEEDED = ['memory', 'pids'];
/** Where the processes of our system go. */
const ACTORS = 'codegod-actors';
const MOVES_MAX = 10;
const REMOVALS_MAX = 40;
const REMOVAL_PAUSE_MS = 25;
const TRIAL: GroupBounds = { memoryBytesMax: 256 * 1024 ** 2, tasksMax: 16 };
const TRIAL_TIMEOUT_MS = 10_000;

/** Never fails. */
export async function findControlGroups(search: GroupSearch): Promise<FoundGroups> {
  const none = (reason: string): FoundGroups => ({
    groups: null,
    account: `sums of memory and processes are watched, not bounded by the kernel: ${reason}`,
  });
  if (process.platform !== 'linux') return none('this system has none');
  if (search.python === null) return none('there is no Python to enter one with');
  try {
    const own = await ownGroup();
    if (own === null) return none('this process is in no group of the second version');
    const base = basename(own) === ACTORS ? dirname(own) : own;
    const refusal = await prepared(base, search.top ?? process.ppid);
    if (refusal !== null) return none(refusal);
    const prefix = `codegod-run-${createHash('sha256').update(search.scratch).digest('hex').slice(0, 8)}-`;
    await sweep(base, prefix);
    const groups = groupsBelow(base, prefix);
    const failure = await trial(groups, search.python);
    if (failure !== null) return none(failure);
    return { groups, account: 'the kernel bounds the sums of memory and processes' };
  } catch (error) {
    return none(error instanceof Error ? error.message : String(error));
  }
}

/** The folder of the group that this process is in; null where none is mounted. */
async function ownGroup(): Promise<string | null> {
  const path = /^0::(\/.*)$/m.exec(await readFile('/proc/self/cgroup', 'utf8'))?.[1];
  if (path === undefined) return null;
  for (const line of (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    if (!after.startsWith('cgroup2 ')) continue;
    const [, , , root = '/', mount = ''] = before.split(' ');
    const below = root === '/' ? path : path.startsWith(root) ? path.slice(root.length) : null;
    if (below !== null) return join(unescaped(mount), below);
  }
  return null;
}

/** Blanks and the like are octal in the table of mounts. */
const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8)));

/** Lets children of the group have both controllers (G1, G2). Answers why not, or null. */
async function prepared(base: string, top: number): Promise<string | null> {
  const offered = await words(base, 'cgroup.controllers');
  if (!NEEDED.every(name => offered.includes(name))) {
    return `${base} has no controllers of memory and processes`;
  }
  for (const file of [base, join(base, 'cgroup.procs'), join(base, 'cgroup.subtree_control')]) {
    const writable = await access(file, constants.W_OK).then(
      () => true,
      () => false,
    );
    if (!writable) return `${base} is not ours to write to`;
  }
  const given = await words(base, 'cgroup.subtree_control');
  if (NEEDED.every(name => given.includes(name))) return null;
  for (let moves = 1; ; moves++) {
    const members = (await words(base, 'cgroup.procs')).map(Number);
    const parents = new Map<number, number>();
    for (const pid of members) await learnParents(pid, parents);
    const isOurs = (pid: number): boolean => pid === top || descends(pid, top, parents);
    if (!members.every(isOurs)) return `others than this system are in ${base}`;
    await mkdir(join(base, ACTORS), { recursive: true });
    for (const pid of members) await move(pid, join(base, ACTORS));
    try {
      await put(base, 'cgroup.subtree_control', NEEDED.map(name => `+${name}`).join(' '));
      return null;
    } catch (error) {
      // A process was started there meanwhile.
      if (!isErrno(error, 'EBUSY') || moves === MOVES_MAX) throw error;
    }
  }
}

/** As they are: nothing is made, and some may be written to but not be read. */
async function put(group: string, file: string, text: string): Promise<void> {
  const opened = await open(join(group, file), constants.O_WRONLY);
  try {
    await opened.write(text);
  } finally {
    await opened.close();
  }
}

async function words(group: string, file: string): Promise<string[]> {
  return (await readFile(join(group, file), 'utf8')).split(/\s+/).filter(word => word !== '');
}

async function learnParents(start: number, parents: Map<number, number>): Promise<void> {
  for (let pid = start; pid > 1 && !parents.has(pid); pid = parents.get(pid) ?? 0) {
    // A process that ended meanwhile has no parent: it is asked for again with the next list.
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    parents.set(pid, Number(/^PPid:\t([0-9]+)/m.exec(status)?.[1] ?? 0));
  }
}

function descends(pid: number, top: number, parents: ReadonlyMap<number, number>): boolean {
  for (let up = pid; up > 0; up = parents.get(up) ?? 0) if (up === top) return true;
  return false;
}

async function move(pid: number, group: string): Promise<void> {
  try {
    await put(group, 'cgroup.procs', String(pid));
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error; // It has ended.
  }
}

function groupsBelow(base: string, prefix: string): ControlGroups {
  let opened = 0;
  return {
    async open({ memoryBytesMax, tasksMax }) {
      opened += 1;
      const group = join(base, `${prefix}${process.pid}-${opened}`);
      await mkdir(group);
      try {
        await put(group, 'memory.max', String(memoryBytesMax));
        await put(group, 'pids.max', String(tasksMax));
        await put(group, 'memory.oom.group', '1');
        await withoutSwap(group);
      } catch (error) {
        await ended(group);
        throw error;
      }
      return {
        members: join(group, 'cgroup.procs'),
        met: async () => {
          if ((await counted(group, 'memory.events', 'oom_kill')) > 0) return 'memory';
          return (await counted(group, 'pids.events', 'max')) > 0 ? 'processes' : null;
        },
        close: () => ended(group),
      };
    },
  };
}

async function withoutSwap(group: string): Promise<void> {
  try {
    await put(group, 'memory.swap.max', '0');
  } catch (error) {
    // Kernels without swap have no such file.
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

async function counted(group: string, file: string, name: string): Promise<number> {
  // Of a group that somebody has removed nothing is known any more.
  const found = await words(group, file).catch((): string[] => []);
  return Number(found[found.indexOf(name) + 1] ?? 0);
}

/** G3. What cannot be removed now is left for the next start. */
async function ended(group: string): Promise<void> {
  await put(group, 'cgroup.kill', '1');
  for (let tries = 1; tries <= REMOVALS_MAX; tries++) {
    try {
      return await rmdir(group);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return;
      if (!isErrno(error, 'EBUSY')) throw error;
    }
    await sleep(REMOVAL_PAUSE_MS); // Those who were killed are still on their way.
  }
}

async function sweep(base: string, prefix: string): Promise<void> {
  const left = (await readdir(base)).filter(name => name.startsWith(prefix));
  for (const name of left) await ended(join(base, name));
}

async function trial(groups: ControlGroups, python: string): Promise<string | null> {
  const group = await groups.open(TRIAL);
  try {
    const { program, args } = confined(
      python,
      { program: 'true', args: [] },
      { cgroups: [group.members] },
    );
    const { failure } = await runProgram(program, args, { timeoutMs: TRIAL_TIMEOUT_MS });
    return failure;
  } finally {
    await group.close();
  }
}
