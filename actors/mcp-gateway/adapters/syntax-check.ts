/**
 * Parses the files of an attempt before they are committed: what does not parse is never merged.
 *
 * Y2: foreign text is read by parsers in the sandbox, bounded in size, memory and time, and nothing
 *     of it is run.
 * Y3: a file at which a parser dies counts as broken, the others are parsed by a fresh one. Where no
 *     parser can be started at all, files pass and are named as unchecked: a machine's fault is not
 *     the model's.
 */
import { randomBytes } from 'node:crypto';
import { access, constants, cp, mkdir, mkdtemp, readFile, realpath, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, delimiter, dirname, join } from 'node:path';
import { FILE_BYTES_MAX } from '../../../protocol/limits.ts';
import type { Logger } from '../../../runtime/log.ts';
import { removeTree } from '../../../runtime/remove-tree.ts';
import {
  checkerFor,
  describeFaults,
  hasSyntax,
  type ParserOutput,
  readParserLines,
  readShellLines,
  type SyntaxChecker,
  type SyntaxFault,
} from '../syntax-report.ts';
import type { Sandbox } from './sandbox.ts';
import { type SandboxView, sandboxView } from './sandbox-view.ts';
import { NODE_SCRIPT, PYTHON_SCRIPT, SHELL_SCRIPT } from './syntax-scripts.ts';

export interface SyntaxOptions {
  readonly sandbox: () => Sandbox;
  readonly scratch: string;
  readonly log: Logger;
  /** The search path on which gofmt is looked for. */
  readonly path: string;
  /** The interpreter that the project's checks will have, or any other; null where there is none. */
  readonly python: () => string | null;
}

export interface SyntaxVerdict {
  /** Faults as text for a model; null where everything that was parsed is well-formed. */
  readonly error: string | null;
  readonly broken: readonly string[];
  readonly unchecked: readonly string[];
}

/** Files of a commit: `fill` writes them, and the manifests beside them, into an empty folder. */
export type CheckSyntax = (
  paths: readonly string[],
  fill: (folder: string) => Promise<void>,
) => Promise<SyntaxVerdict>;

/** Folders of a run: what is parsed, and beside it the packages that parse it, if there is such a file. */
const PROJECT = 'project';
const PARSERS = [
  { name: '@babel/parser', files: /\.(?:[mc]?[jt]s|[jt]sx|json|jsonc|json5)$/i },
  { name: 'yaml', files: /\.ya?ml$/i },
] as const;
const copyOf = (name: string): string => `parser-${name.replace(/\W/g, '-')}`;
/** What lies beside a package's program and is never loaded. */
const NOT_LOADED = /\.d\.[mc]?ts$|\.map$/;

const TIMEOUT_MS = 15_000;
const FILES_MAX = 256;
const MEMORY_BYTES_MAX = 1024 ** 3;
/** Parsers that may die over one commit. */
const DEATHS_MAX = 3;

export function createSyntaxCheck(options: SyntaxOptions): CheckSyntax {
  const tools = once(() => findTools(options));
  return async (paths, fill) => {
    const unchecked = paths.filter(path => checkerFor(path) === null && hasSyntax(path));
    const asked = paths.filter(path => checkerFor(path) !== null);
    if (asked.length === 0) return { error: null, broken: [], unchecked };
    await mkdir(options.scratch, { recursive: true });
    const folder = await mkdtemp(join(options.scratch, 'syntax-'));
    try {
      const work = join(folder, 'work');
      const project = join(work, PROJECT);
      await mkdir(project, { recursive: true });
      await fill(project);
      await addParsers(await tools(), asked, work);
      const sizes = await Promise.all(asked.map(path => stat(join(project, path))));
      const small = asked.filter((_, index) => (sizes[index]?.size ?? 0) <= FILE_BYTES_MAX);
      const taken = small.slice(0, FILES_MAX);
      const texts = await readTexts(project, taken);
      const faults: SyntaxFault[] = [];
      const left = asked.filter(path => !taken.includes(path));
      for (const checker of ['node', 'python', 'shell'] as const) {
        const own = taken.filter(path => checkerFor(path) === checker);
        const said = await parseAll(options, await tools(), { checker, paths: own, work });
        faults.push(...said.faults);
        left.push(...said.unchecked);
      }
      const error =
        faults.length === 0 ? null : describeFaults(faults, path => texts.get(path) ?? null);
      const broken = [...new Set(faults.map(fault => fault.path))];
      return { error, broken, unchecked: [...unchecked, ...left] };
    } finally {
      await removeTree(folder);
    }
  };
}

async function readTexts(project: string, paths: readonly string[]): Promise<Map<string, string>> {
  const texts = await Promise.all(paths.map(path => readFile(join(project, path), 'utf8')));
  return new Map(paths.map((path, index) => [path, texts[index] ?? '']));
}

interface Parser {
  readonly name: string;
  /** The names of files that it is for. */
  readonly files: RegExp;
  /** Null where it is not installed. */
  readonly program: string | null;
}

interface Tools {
  readonly view: SandboxView;
  readonly python: string | null;
  readonly gofmt: string | null;
  readonly parsers: readonly Parser[];
}

async function findTools(options: SyntaxOptions): Promise<Tools> {
  const python = options.python();
  const gofmt = await onPath('gofmt', options.path);
  const also = gofmt === null ? [] : [gofmt];
  const view = await sandboxView({ node: process.execPath, python, also });
  const parsers = PARSERS.map(({ name, files }) => ({ name, files, program: moduleFile(name) }));
  return { view, python, gofmt, parsers };
}

/** Our packages lie anywhere, also where the sandbox has its own folders: it gets copies. */
async function addParsers(
  { parsers }: Tools,
  paths: readonly string[],
  work: string,
): Promise<void> {
  for (const { name, files, program } of parsers) {
    if (program === null || !paths.some(path => files.test(path))) continue;
    const filter = (file: string): boolean => !NOT_LOADED.test(file);
    await cp(dirname(program), join(work, copyOf(name)), { recursive: true, filter });
  }
}

/** Where a program lies on a search path, without its links; null where it is not there. */
async function onPath(name: string, path: string): Promise<string | null> {
  for (const folder of path.split(delimiter).filter(part => part !== '')) {
    const file = join(folder, name);
    const found = await access(file, constants.X_OK).then(
      () => realpath(file),
      () => null, // Not in this folder, or not for us.
    );
    if (found !== null) return found;
  }
  return null;
}

/** The file that a package is loaded from; null where it is not installed. */
function moduleFile(name: string): string | null {
  try {
    return createRequire(import.meta.url).resolve(name);
  } catch {
    // Its languages are then named as unchecked.
    return null;
  }
}

interface Job {
  readonly checker: SyntaxChecker;
  readonly paths: readonly string[];
  readonly work: string;
}

type Said = Pick<ParserOutput, 'faults' | 'unchecked'>;

async function parseAll(options: SyntaxOptions, tools: Tools, job: Job): Promise<Said> {
  const faults: SyntaxFault[] = [];
  const unchecked: string[] = [];
  let waiting = commandFor(job, tools, '') === null ? [] : [...job.paths];
  if (waiting.length === 0) unchecked.push(...job.paths);
  if (tools.gofmt === null) {
    unchecked.push(...waiting.filter(path => path.endsWith('.go')));
    waiting = waiting.filter(path => !path.endsWith('.go'));
  }
  for (let deaths = 0; waiting.length > 0; deaths++) {
    const said = await parseOnce(options, tools, { ...job, paths: waiting });
    faults.push(...said.faults);
    unchecked.push(...said.unchecked);
    waiting = waiting.filter(path => !said.done.has(path));
    if (waiting.length === 0) break;
    if (said.at !== null) {
      // Y3
      faults.push({ path: said.at, line: null, message: 'the parser did not come to its end' });
      waiting = waiting.filter(path => path !== said.at);
    }
    if (said.at === null || deaths >= DEATHS_MAX) {
      options.log.warn('syntax.not_checked', { checker: job.checker, files: waiting.length });
      unchecked.push(...waiting);
      break;
    }
  }
  return { faults, unchecked };
}

async function parseOnce(options: SyntaxOptions, tools: Tools, job: Job): Promise<ParserOutput> {
  const mark = randomBytes(12).toString('hex');
  const command = commandFor(job, tools, mark) ?? [];
  const limits = { timeoutMs: TIMEOUT_MS, memoryBytesMax: MEMORY_BYTES_MAX };
  const { view } = tools;
  const result = await options.sandbox().run({ work: job.work, command, view, limits });
  return job.checker === 'shell'
    ? readShellLines(result.output, job.paths, mark)
    : readParserLines(result.output, job.paths);
}

function commandFor({ checker, paths }: Job, tools: Tools, mark: string): string[] | null {
  const { python, gofmt } = tools;
  const inProject = ['sh', '-c', `cd ${PROJECT} && exec "$@"`, 'syntax'];
  if (checker === 'node') {
    const entries = tools.parsers.map(({ name, program }) =>
      program === null ? '' : `${copyOf(name)}/${basename(program)}`,
    );
    const flags = ['--no-warnings', '--experimental-vm-modules'];
    return ['node', ...flags, '-e', NODE_SCRIPT, PROJECT, ...entries, ...paths];
  }
  if (checker === 'shell') {
    return [...inProject, 'sh', '-c', SHELL_SCRIPT, 'syntax', mark, gofmt ?? '', ...paths];
  }
  if (python === null) return null;
  return [...inProject, python, '-I', '-S', '-c', PYTHON_SCRIPT, ...paths];
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = null;
      throw error;
    });
    return made;
  };
}
