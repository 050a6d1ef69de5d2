/**
 * Makes an attempt's worktree fit for its next turn: a turn that failed in its middle leaves folders
 * where files belong, files of others, half a file. Whole files that the task owns stay: the next turn
 * may give only those that were wrong.
 *
 * T1: once per turn: what the calls of a turn have written is not looked at again when the request
 *     comes again after a kill.
 * T2: where the worktree cannot be mended it is made anew.
 */
import { lstat, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ownsPath } from '../../../protocol/owned-paths.ts';
import { removeTree } from '../../../runtime/remove-tree.ts';
import { isErrno } from './disk.ts';
import type { Git } from './git.ts';
import type { CheckSyntax } from './syntax-check.ts';
import { changesBetween, exportPaths, FILE_MODES, treeOfFiles } from './workspace-commit.ts';
import { type AttemptNames, attemptPlace, type Project } from './workspace-place.ts';

export interface TidyOptions {
  readonly base: string;
  readonly turn: number;
  readonly owns: readonly string[];
  readonly checkSyntax: CheckSyntax;
  /** Throws the worktree away and makes it from the base again. */
  readonly remake: () => Promise<void>;
}

export async function tidyWorktree(
  git: Git,
  project: Project,
  names: AttemptNames,
  options: TidyOptions,
): Promise<void> {
  const marker = join(attemptPlace(project, names).gitDir, 'codegod-turn');
  if ((await turnIn(marker)) >= options.turn) return; // T1
  try {
    await undo(git, project, names, options);
  } catch {
    // A tree that git cannot read or that we cannot remove from; its base is whole.
    await options.remake(); // T2
  }
  await writeFile(marker, String(options.turn));
}

async function turnIn(marker: string): Promise<number> {
  try {
    return Number(await readFile(marker, 'utf8')) || 0;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return 0;
    throw error;
  }
}

async function undo(git: Git, project: Project, names: AttemptNames, options: TidyOptions) {
  const { base, owns, checkSyntax } = options;
  await removeFolders(names.path, owns);
  const tree = await treeOfFiles(git, project, names, base);
  const changes = await changesBetween(git, project.bare, base, tree);
  const written = changes.filter(({ mode }) => FILE_MODES.has(mode) && mode !== '000000');
  const paths = written.map(({ path }) => path).filter(path => ownsPath(owns, path));
  const { broken } = await checkSyntax(paths, folder =>
    exportPaths(git, project, { tree, paths, folder }),
  );
  const kept = new Set(paths.filter(path => !broken.includes(path)));
  const undone = changes.map(({ path }) => path).filter(path => !kept.has(path));
  for (const path of undone) await removeTree(join(names.path, path));
  await restore(git, project, names, { base, paths: undone });
  await removeEmpty(names.path);
}

/** A folder under the name of a file that the task owns. */
async function removeFolders(root: string, owns: readonly string[]): Promise<void> {
  const files = owns.filter(path => !/[*?]/.test(path) && /[^/.]\.[A-Za-z0-9]{1,12}$/.test(path));
  for (const path of files) {
    const isThere = await isRealFolder(root, path.split('/'));
    if (isThere) await removeTree(join(root, path));
  }
}

/** Whether each step of a path is a folder, and none a link that leads elsewhere. */
async function isRealFolder(root: string, steps: readonly string[]): Promise<boolean> {
  let path = root;
  for (const step of steps) {
    path = join(path, step);
    // What is not there, or not a folder, needs no removing.
    const facts = await lstat(path).catch(() => null);
    if (facts?.isDirectory() !== true) return false;
  }
  return true;
}

interface Restored {
  readonly base: string;
  readonly paths: readonly string[];
}

async function restore(git: Git, project: Project, names: AttemptNames, what: Restored) {
  const indexFile = join(attemptPlace(project, names).gitDir, 'codegod-tidy');
  const place = { ...attemptPlace(project, names), indexFile };
  try {
    await git.run(place, ['read-tree', what.base]);
    const listed = await git.text(place, ['ls-files', '-z']);
    const there = new Set(listed.split('\0'));
    const input = what.paths
      .filter(path => there.has(path))
      .map(path => `${path}\0`)
      .join('');
    const args = ['checkout-index', '--quiet', '--force', '-z', '--stdin'];
    await git.run(place, args, { input });
  } finally {
    await rm(indexFile, { force: true });
  }
}

/** Empty folders are in no commit, and stand in the way of files. */
async function removeEmpty(root: string): Promise<void> {
  const entries = await readdir(root, { withFileTypes: true, recursive: true });
  const folders = entries
    .filter(entry => entry.isDirectory() && entry.name !== '.git')
    .map(entry => join(entry.parentPath, entry.name))
    .filter(folder => dirname(folder) !== folder)
    .sort((one, other) => other.length - one.length);
  for (const folder of folders) {
    await rmdir(folder).catch((error: unknown) => {
      if (!isErrno(error, 'ENOTEMPTY') && !isErrno(error, 'EEXIST')) throw error;
    });
  }
}
