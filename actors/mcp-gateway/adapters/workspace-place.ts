/**
 * Where a build's project and its attempts lie on the disk, and the names of their git references.
 *
 *     <data>/projects/<name>-<build>                    the project, branch main checked out
 *     <data>/worktrees/<build>-<stamp>/<task>.<attempt> an attempt, branch attempt/<task>.<attempt>
 *     <data>/scratch/                                   half-made things; everything in it may be deleted
 *
 * L1: ids come from `protocol/ids.ts`, parsed: no id can hold a slash, a dot or a leading dash.
 * L2: a project is found by the mark in its git configuration, never by its folder's name alone: the
 *     numbers of builds begin again where the bus has lost its store, and what a folder of that name
 *     holds may be a person's.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CodeGodError } from '../../../protocol/errors.ts';
import { buildKey, type StampedBuild } from '../../../protocol/ids.ts';
import type { AttemptScope } from '../../../protocol/mcp.ts';
import { isErrno } from './disk.ts';
import type { Git, GitPlace } from './git.ts';

export const MAIN = 'refs/heads/main';

/** Where everything of the gateway's workspaces lies; built once from the data directory. */
export interface WorkspaceRoots {
  readonly projects: string;
  readonly worktrees: string;
  readonly scratch: string;
}

export function workspaceRoots(dataDir: string): WorkspaceRoots {
  return {
    projects: join(dataDir, 'projects'),
    worktrees: join(dataDir, 'worktrees'),
    scratch: join(dataDir, 'scratch'),
  };
}

/** A project's repository; without a work tree where only its objects are wanted. */
export interface Project {
  readonly path: string;
  readonly bare: GitPlace;
  readonly checkout: GitPlace;
}

export function projectAt(path: string): Project {
  const gitDir = join(path, '.git');
  return { path, bare: { gitDir }, checkout: { gitDir, workTree: path } };
}

/** An attempt's names: `leaf` in paths, `branch` and `base` as full references. */
export interface AttemptNames {
  readonly leaf: string;
  readonly path: string;
  readonly branch: string;
  /** Points to the commit the attempt started from; exists once the worktree is complete. */
  readonly base: string;
  /** Points to the commit of an attempt that a person's work kept from main. */
  readonly kept: string;
}

export const KEPT = 'refs/codegod/kept/';

export function attemptNames(roots: WorkspaceRoots, scope: AttemptScope): AttemptNames {
  const leaf = `${scope.task}.${scope.attempt}`;
  return {
    leaf,
    path: join(worktreesOf(roots, scope), leaf),
    branch: `refs/heads/attempt/${leaf}`,
    base: `refs/codegod/base/${leaf}`,
    kept: `${KEPT}${leaf}`,
  };
}

/** The worktrees of all attempts of a build. */
export const worktreesOf = (roots: WorkspaceRoots, build: StampedBuild): string =>
  join(roots.worktrees, buildKey(build));

/** The git place of an attempt's worktree; its `.git` file is not asked. */
export function attemptPlace(project: Project, names: AttemptNames): GitPlace {
  return { gitDir: join(project.bare.gitDir, 'worktrees', names.leaf), workTree: names.path };
}

/** Of the configuration of a project's repository: the build that it is of. */
const MARK = 'codegod.build';

/** Projects that were found once; at work at a time are far fewer. */
const FOUND_MAX = 256;

export type FindProject = (build: StampedBuild) => Promise<Project | null>;

/** Finds the projects of builds. One that was found is where it was as long as it is there. */
export function projectFinder(git: Git, roots: WorkspaceRoots): FindProject {
  const found = new Map<string, Project>();
  return async build => {
    const key = buildKey(build);
    const known = found.get(key);
    if (known !== undefined && (await isFolder(known.bare.gitDir))) return known;
    found.delete(key);
    const project = await findProject(git, roots, build);
    if (project === null) return null;
    const [oldest] = found.keys();
    if (oldest !== undefined && found.size >= FOUND_MAX) found.delete(oldest);
    found.set(key, project);
    return project;
  };
}

/** Whatever a person may have renamed the beginning of its folder to (L2). */
async function findProject(
  git: Git,
  roots: WorkspaceRoots,
  build: StampedBuild,
): Promise<Project | null> {
  const ends = [`-${build.build}`, `-${buildKey(build)}`];
  for (const folder of await foldersOf(roots.projects)) {
    if (!ends.some(end => folder.endsWith(end))) continue;
    const project = projectAt(join(roots.projects, folder));
    if (await isOf(git, project, build)) return project;
  }
  return null;
}

/** A folder that nothing has: the name of one that is another's is left to it. */
export async function freeFolder(
  roots: WorkspaceRoots,
  name: string,
  build: StampedBuild,
): Promise<string> {
  const taken = await foldersOf(roots.projects);
  const folder = [`${name}-${build.build}`, `${name}-${buildKey(build)}`].find(
    candidate => !taken.includes(candidate),
  );
  if (folder !== undefined) return join(roots.projects, folder);
  throw new CodeGodError(
    'conflict',
    `${name}-${buildKey(build)} is there and is no project of it`,
    {
      hint: `move ${join(roots.projects, `${name}-${build.build}`)} away`,
    },
  );
}

export async function markProject(git: Git, project: Project, build: StampedBuild): Promise<void> {
  await git.run(project.bare, ['config', MARK, buildKey(build)]);
}

async function isOf(git: Git, project: Project, build: StampedBuild): Promise<boolean> {
  if (!(await isFolder(project.bare.gitDir))) return false;
  const { stdout } = await git.run(project.bare, ['config', '--get', MARK], { answers: [1] });
  const mark = stdout.trim();
  if (mark !== '') return mark === buildKey(build);
  // Projects were not marked before there were stamps; their first commit names the build.
  return build.stamp === undefined && (await beganAs(git, project, build));
}

async function beganAs(git: Git, project: Project, build: StampedBuild): Promise<boolean> {
  const args = ['log', '--max-parents=0', '--format=%B', MAIN, '--'];
  const { code, stdout } = await git.run(project.bare, args, { answers: [128] });
  return code === 0 && stdout.split('\n').includes(`Build: ${build.build}`);
}

async function isFolder(path: string): Promise<boolean> {
  const entry = await stat(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return null;
    throw error;
  });
  return entry?.isDirectory() === true;
}

export async function foldersOf(path: string): Promise<readonly string[]> {
  const entries = await readdir(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  });
  return entries.filter(entry => !entry.startsWith('.'));
}
