/**
 * The folder of a project: it shows main, and a person may work in it.
 *
 * F1: what a person has not committed is never written over. Before main moves, each path that changes
 *     has to hold, in the folder and in the index, what main held or is about to hold; anything else is
 *     a person's: it is named, and main stays where it is. All other paths are never touched.
 * F2: the commit that the folder shows is noted in the transaction that moves main, and forgotten when
 *     the folder shows main: after a kill the next call goes on from there.
 * F3: a file comes whole, by a rename, so that after a kill a path holds the old or the new.
 * F4: where a person has something else than main checked out, the folder is theirs.
 */
import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import {
  access,
  constants,
  lstat,
  mkdir,
  readdir,
  readlink,
  rename,
  rm,
  rmdir,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import { removeTree } from '../../../runtime/remove-tree.ts';
import { isErrno } from './disk.ts';
import type { Git } from './git.ts';
import { resolveRef } from './git-refs.ts';
import { exportPaths } from './workspace-commit.ts';
import { MAIN, type Project } from './workspace-place.ts';

/** The commit that the folder shows, where main has moved on and the folder may not have (F2). */
export const SHOWN = 'refs/codegod/shown';

const NAMED_MAX = 8;
const IN_THE_WAY_MAX = 64;
const LINK = '120000';
const ABSENT: Entry = { mode: '000000', oid: '' };

/** What a tree, the index or the folder holds at a path. */
interface Entry {
  readonly mode: string;
  readonly oid: string;
}

/** A path that changes: what it is to hold, and what it held. */
interface Target {
  readonly to: Entry;
  readonly ours: Entry[];
}

type Targets = ReadonlyMap<string, Target>;

const isAbsent = (entry: Entry): boolean => entry.mode === ABSENT.mode;
const isSame = (one: Entry, other: Entry): boolean =>
  one.mode === other.mode && (isAbsent(one) || one.oid === other.oid);

/** Whether the folder is to follow main (F4). */
export async function followsMain(git: Git, project: Project): Promise<boolean> {
  const head = await git.run(project.bare, ['symbolic-ref', '--quiet', 'HEAD'], { answers: [1] });
  return head.stdout.trim() === MAIN;
}

/** @throws CodeGodError `conflict` where the way from `head` to `to` leads over a person's work (F1). */
export async function requireRoom(
  git: Git,
  project: Project,
  { head, to, build }: { readonly head: string; readonly to: string; readonly build: string },
): Promise<void> {
  const shown = await resolveRef(git, project.bare, SHOWN);
  const targets = await targetsOf(git, project, shown === null ? [head] : [shown, head], to);
  const foreign = [...new Set((await judge(git, project, targets)).foreign.values())];
  if (foreign.length === 0) return;
  const more = foreign.length > NAMED_MAX ? ` and ${foreign.length - NAMED_MAX} more` : '';
  const names = `${foreign.slice(0, NAMED_MAX).join(', ')}${more}`;
  throw new CodeGodError(
    'conflict',
    `changes in ${project.path} that are not committed are in the way: ${names}; ` +
      `commit them to main or move them away, then: codegod retry ${build}`,
    { details: { in_the_way: foreign.slice(0, IN_THE_WAY_MAX) } },
  );
}

/** Brings the folder from what it shows to main; what a person wrote in the meantime stays. */
export async function showMain(git: Git, project: Project, since?: string): Promise<void> {
  const shown = (await resolveRef(git, project.bare, SHOWN)) ?? since ?? null;
  if (shown === null || !(await followsMain(git, project))) return;
  const before = await resolveRef(git, project.bare, `${MAIN}^`);
  const targets = await targetsOf(git, project, before === null ? [shown] : [shown, before], MAIN);
  const folder = join(project.bare.gitDir, 'codegod-show');
  await removeTree(folder);
  await mkdir(folder);
  const paths = [...targets].filter(([, { to }]) => !isAbsent(to)).map(([path]) => path);
  await exportPaths(git, project, { tree: MAIN, paths, folder });
  const { found, foreign } = await judge(git, project, targets);
  const mine = [...targets].filter(([path]) => !foreign.has(path));
  const changed = mine.filter(([path, { to }]) => !isSame(found.get(path) ?? ABSENT, to));
  for (const [path, { to }] of changed) if (isAbsent(to)) await removeFile(project.path, path);
  for (const [path, { to }] of changed) {
    if (!isAbsent(to)) await placeFile(join(folder, path), join(project.path, path));
  }
  await writeIndex(git, project, mine);
  await removeTree(folder);
  // What is left to a person is still to be named before main moves again.
  if (foreign.size === 0) await git.run(project.bare, ['update-ref', '-d', SHOWN]);
}

/**
 * The parent of main where nothing but main has moved: so a kill left it before what the folder shows
 * was noted.
 */
export async function unshownParent(git: Git, project: Project): Promise<string | undefined> {
  const parent = await resolveRef(git, project.bare, `${MAIN}^`);
  if (parent === null) return undefined;
  const args = ['diff-index', '--cached', '--quiet', parent];
  const { code } = await git.run(project.checkout, args, { answers: [1] });
  return code === 0 ? parent : undefined;
}

async function targetsOf(
  git: Git,
  project: Project,
  bases: readonly string[],
  to: string,
): Promise<Targets> {
  const targets = new Map<string, Target>();
  for (const base of new Set(bases)) {
    const args = ['diff-tree', '-r', '-z', '--raw', '--no-abbrev', '--no-renames', base, to];
    const fields = (await git.text(project.bare, args)).split('\0');
    for (let index = 0; index + 1 < fields.length; index += 2) {
      const [oldMode = '', mode = '', oldOid = '', oid = ''] = (fields[index] ?? '')
        .slice(1)
        .split(' ');
      const path = fields[index + 1] ?? '';
      const target = targets.get(path) ?? { to: { mode, oid }, ours: [{ mode, oid }] };
      target.ours.push({ mode: oldMode, oid: oldOid });
      targets.set(path, target);
    }
  }
  return targets;
}

interface Judgement {
  /** What the folder holds, of the paths that are ours. */
  readonly found: ReadonlyMap<string, Entry>;
  /** Paths that are a person's, each with the name of what is in the way. */
  readonly foreign: ReadonlyMap<string, string>;
}

async function judge(git: Git, project: Project, targets: Targets): Promise<Judgement> {
  const foreign = new Map<string, string>();
  const found = new Map<string, Entry>();
  const files = new Map<string, Stats>();
  for (const path of targets.keys()) {
    const seen = await look(project.path, path, targets);
    if (typeof seen === 'string') foreign.set(path, seen);
    else if (seen === null) found.set(path, ABSENT);
    else if (seen.isSymbolicLink()) {
      const length = targets.get(path)?.to.oid.length ?? 0;
      found.set(path, {
        mode: LINK,
        oid: blobOf(await readlink(join(project.path, path)), length),
      });
    } else files.set(path, seen);
  }
  for (const [path, entry] of await hashed(git, project, files, targets)) found.set(path, entry);
  for (const [path, { ours }] of targets) {
    const entry = found.get(path);
    if (entry !== undefined && !ours.some(one => isSame(one, entry))) foreign.set(path, path);
  }
  for (const path of await staged(git, project, targets)) {
    if (!foreign.has(path)) foreign.set(path, path);
  }
  return { found, foreign };
}

/** A file or link at the path, null for nothing that would be lost, or the name of what is. */
async function look(root: string, path: string, targets: Targets): Promise<Stats | null | string> {
  for (const parent of parentsOf(path)) {
    const facts = await factsOf(join(root, parent));
    if (facts === null) return null;
    // A file or a link where a folder belongs is looked at itself where it goes.
    if (!facts.isDirectory()) return targets.has(parent) ? null : parent;
  }
  const facts = await factsOf(join(root, path));
  if (facts === null || facts.isSymbolicLink()) return facts;
  if (facts.isDirectory()) return await foreignIn(root, path, targets);
  if (!facts.isFile()) return path;
  try {
    await access(join(root, path), constants.R_OK);
    return facts;
  } catch {
    // What we cannot read is not what we wrote.
    return path;
  }
}

/** The first thing in a folder that is not looked at itself; empty folders are nothing. */
async function foreignIn(root: string, folder: string, targets: Targets): Promise<string | null> {
  for (const entry of await readdir(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    const found = entry.isDirectory() ? await foreignIn(root, path, targets) : path;
    if (found !== null && !targets.has(found)) return found;
  }
  return null;
}

async function factsOf(path: string): Promise<Stats | null> {
  return await lstat(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return null;
    throw error;
  });
}

function parentsOf(path: string): string[] {
  const steps = path.split('/');
  return steps.slice(1).map((_, index) => steps.slice(0, index + 1).join('/'));
}

function blobOf(text: string, oidLength: number): string {
  const content = Buffer.from(text);
  const hash = createHash(oidLength === 64 ? 'sha256' : 'sha1');
  return hash.update(`blob ${content.length}\0`).update(content).digest('hex');
}

/** As git would store them: with the line ends and filters of the project's attributes. */
async function hashed(
  git: Git,
  project: Project,
  files: ReadonlyMap<string, Stats>,
  targets: Targets,
): Promise<Map<string, Entry>> {
  const entries = new Map<string, Entry>();
  if (files.size === 0) return entries;
  const input = [...files.keys()].map(path => `${quoted(path)}\n`).join('');
  const args = ['hash-object', '--stdin-paths'];
  const oids = (await git.text(project.checkout, args, { input })).split('\n');
  const config = ['config', '--type=bool', '--get', 'core.fileMode'];
  const { stdout } = await git.run(project.bare, config, { answers: [1] });
  const hasModes = stdout.trim() !== 'false';
  for (const [index, [path, facts]] of [...files].entries()) {
    const oid = oids[index] ?? '';
    // A disk without modes: the mode is the one that belongs to what is there.
    const own = targets.get(path)?.ours.find(one => one.oid === oid)?.mode ?? '100644';
    const mode = (facts.mode & constants.S_IXUSR) === 0 ? '100644' : '100755';
    entries.set(path, { mode: hasModes ? mode : own, oid });
  }
  return entries;
}

const quoted = (path: string): string =>
  `"${path.replace(/["\\]/g, '\\$&').replaceAll('\n', '\\n')}"`;

/** Targets at which, above which or below which the index holds something that is a person's. */
async function staged(git: Git, project: Project, targets: Targets): Promise<string[]> {
  const held = new Map<string, Entry[]>();
  const above = new Set<string>();
  for (const line of (await git.text(project.checkout, ['ls-files', '-s', '-z'])).split('\0')) {
    const [mode = '', oid = '', stage = ''] = line.slice(0, line.indexOf('\t')).split(' ');
    const path = line.slice(line.indexOf('\t') + 1);
    // An unmerged path is never ours.
    const entry = { mode: stage === '0' ? mode : `unmerged ${stage}`, oid };
    held.set(path, [...(held.get(path) ?? []), entry]);
    if (!targets.has(path)) for (const parent of parentsOf(path)) above.add(parent);
  }
  return [...targets].flatMap(([path, { to, ours }]) => {
    const entries = held.get(path) ?? [ABSENT];
    const isOurs = entries.every(entry => ours.some(one => isSame(one, entry)));
    const under = parentsOf(path).some(parent => held.has(parent) && !targets.has(parent));
    return isOurs && !under && (isAbsent(to) || !above.has(path)) ? [] : [path];
  });
}

async function removeFile(root: string, path: string): Promise<void> {
  await rm(join(root, path), { force: true });
  for (const parent of parentsOf(path).reverse()) {
    if (!(await removeIfEmpty(join(root, parent)))) return;
  }
}

async function placeFile(from: string, to: string): Promise<void> {
  if ((await factsOf(to))?.isDirectory() === true) await removeEmpty(to);
  await mkdir(dirname(to), { recursive: true });
  await rename(from, to); // F3
}

async function removeEmpty(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeEmpty(join(folder, entry.name));
  }
  await removeIfEmpty(folder);
}

async function removeIfEmpty(folder: string): Promise<boolean> {
  try {
    await rmdir(folder);
    return true;
  } catch (error) {
    if (['ENOTEMPTY', 'EEXIST', 'ENOENT', 'ENOTDIR'].some(code => isErrno(error, code)))
      return false;
    throw error;
  }
}

async function writeIndex(git: Git, project: Project, targets: readonly [string, Target][]) {
  const first = targets.filter(([, { to }]) => isAbsent(to));
  const then = targets.filter(([, { to }]) => !isAbsent(to));
  const line = ([path, { to }]: [string, Target]): string =>
    `${isAbsent(to) ? '0' : to.mode} ${to.oid}\t${path}\0`;
  const input = [...first, ...then].map(line).join('');
  if (input === '') return;
  await git.run(project.checkout, ['update-index', '-z', '--index-info'], { input });
}
