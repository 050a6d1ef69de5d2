/** The shape of files: length, cycles, dead files, names, titles, words. */
import { isTest } from './doors.ts';
import type { Breach, SourceFile, Tree } from './tree.ts';

export const FILE_LINES_MAX = 600;
const TEST_LINES_MAX = 900;
const HEAD_COMMENT = /^(#!.*\n)?\/\*\*/;

/** Files run by themselves: everything that lives is reachable from one of them. */
const ENTRIES =
  /^(cli\/main\.ts|actors\/[a-z-]+\/main\.ts|bench\/.*\.ts|.*\.test\.ts|test\/.*\.ts)$/;

interface BannedWord {
  readonly word: RegExp;
  readonly use: string;
  readonly inComments: boolean;
}

const BANNED: readonly BannedWord[] = [
  { word: /\b(TODO|FIXME|XXX|HACK)\b/, use: 'an issue, or do it', inComments: true },
  { word: /\b(blacklist|whitelist)\b/i, use: 'deny list, allow list', inComments: true },
  { word: /@ts-(ignore|nocheck|expect-error)/, use: 'a type that is true', inComments: true },
  { word: /\bas any\b|: any\b|<any>/, use: 'unknown, and narrow it', inComments: false },
  { word: /catch\s*(\([^)]*\))?\s*\{\s*\}/, use: 'a handled error', inComments: false },
];

export function checkShape(tree: Tree): Breach[] {
  return tree.flatMap(file =>
    file.path.endsWith('.md') ? checkMarkdown(file) : checkSource(file),
  );
}

function checkSource(file: SourceFile): Breach[] {
  const breaches: Breach[] = [];
  const lines = file.text.split('\n').length - 1;
  const say = (line: number, message: string) => breaches.push({ path: file.path, line, message });
  const limit = isTest(file.path) ? TEST_LINES_MAX : FILE_LINES_MAX;
  if (lines > limit) say(1, `${lines} lines; at most ${limit}: split it by noun`);
  if (!/^([a-z0-9-]+\/)*[a-z0-9.-]+$/.test(file.path)) say(1, 'names are kebab-case');
  if (/(^|\/)(utils?|helpers?|types|common|misc|index)\.ts$/.test(file.path)) {
    say(1, 'a file is named after the one noun it holds');
  }
  if (!HEAD_COMMENT.test(file.text)) say(1, 'a file starts with a comment that says its one job');
  if (file.path.startsWith('test/tidy/') || file.path === 'test/tidy.test.ts') return breaches;
  for (const { word, use, inComments } of BANNED) {
    const text = inComments ? file.text : file.code;
    for (const [index, line] of text.split('\n').entries()) {
      if (word.test(line)) say(index + 1, `${word.source}: use ${use}`);
    }
  }
  return breaches;
}

function checkMarkdown(file: SourceFile): Breach[] {
  const prose = file.text.replace(/```[\s\S]*?```/g, '');
  const titles = prose.split('\n').filter(line => line.startsWith('# ')).length;
  return titles === 1
    ? []
    : [{ path: file.path, line: 1, message: `${titles} titles; a page has exactly one` }];
}

/** Import cycles at run time: imports of types alone make none. */
export function checkCycles(tree: Tree): Breach[] {
  const files = new Map(tree.map(file => [file.path, file]));
  const done = new Set<string>();
  const breaches: Breach[] = [];
  const walk = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) {
      const cycle = [...trail.slice(trail.indexOf(path)), path].join(' → ');
      breaches.push({ path, line: 1, message: `an import cycle: ${cycle}` });
      return;
    }
    if (done.has(path)) return;
    for (const { relative, typeOnly, target } of files.get(path)?.imports ?? []) {
      if (relative && !typeOnly) walk(target, [...trail, path]);
    }
    done.add(path);
  };
  for (const path of files.keys()) walk(path, []);
  return breaches;
}

/** Files that nothing which runs would ever load. */
export function checkDead(tree: Tree): Breach[] {
  const files = new Map(tree.map(file => [file.path, file]));
  const alive = new Set<string>();
  const visit = (path: string): void => {
    if (alive.has(path)) return;
    alive.add(path);
    for (const { relative, target } of files.get(path)?.imports ?? []) {
      if (relative) visit(target);
    }
  };
  const sources = tree.filter(({ path }) => path.endsWith('.ts'));
  for (const { path } of sources) if (ENTRIES.test(path) && !isTest(path)) visit(path);
  for (const { path } of sources) if (isTest(path)) visit(path);
  return sources
    .filter(({ path }) => !alive.has(path) && !path.includes('/fixtures/'))
    .map(({ path }) => ({ path, line: 1, message: 'nothing imports this file' }));
}
