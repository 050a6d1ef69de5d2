/**
 * How many tests a check ran, read from the summary that its runner prints at the end.
 *
 * O1: zero tests collected, or no summary that we know, is never a pass, whatever the exit code.
 * O2: `node --test` counts a file without any test in it as one passed test; such files are not
 *     tests here.
 * O3: the last summary wins: text that the tested program printed before it does not count.
 * O4: whatever was printed, reading it takes time in proportion to its length: each line is looked
 *     at by itself and only as far as {@link LINE_LENGTH_MAX}, so no pattern can run over lines.
 */

export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
}

/** No line of a summary is longer. */
const LINE_LENGTH_MAX = 1_000;

/** The counts, or null where no summary is known. `output` is standard output and error as printed. */
export function countTests(output: string): TestCounts | null {
  const lines = output
    .split('\n')
    .map(line => line.slice(0, LINE_LENGTH_MAX).replace(ANSI, '').trimEnd())
    .filter(line => line !== '');
  for (const read of READERS) {
    const counts = read(lines);
    if (counts !== null) return counts;
  }
  return null;
}

export function isPass(exitCode: number | null, counts: TestCounts | null): boolean {
  return exitCode === 0 && counts !== null && counts.failed === 0 && counts.passed > 0; // O1
}

const ANSI = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');

type Lines = readonly string[];

const READERS = [node, pytest, unittest, jest, mocha, cargo, goTest] as const;

function node(lines: Lines): TestCounts | null {
  const tests = lastNumber(lines, /^(?:#|ℹ) tests ([0-9]+)$/);
  const passed = lastNumber(lines, /^(?:#|ℹ) pass ([0-9]+)$/);
  if (tests === null || passed === null) return null;
  const failed = lastNumber(lines, /^(?:#|ℹ) fail ([0-9]+)$/) ?? 0;
  const cancelled = lastNumber(lines, /^(?:#|ℹ) cancelled ([0-9]+)$/) ?? 0;
  const files = /^(?:ok [0-9]+ - |✔ )\/\S+\.[cm]?[jt]sx?(?: \([0-9.]+ms\))?$/; // O2
  return { passed: Math.max(0, passed - countOf(lines, files)), failed: failed + cancelled };
}

function pytest(lines: Lines): TestCounts | null {
  const summary = /^=*\s?(?:no tests ran|[0-9]+ [a-z]+)(?:, [0-9]+ [a-z]+)* in [0-9.]+s.*$/;
  const last = lastLine(lines, summary);
  if (last === null) return null;
  const count = (word: string) => Number(new RegExp(`([0-9]+) ${word}`).exec(last)?.[1] ?? 0);
  return { passed: count('passed'), failed: count('failed') + count('errors?') };
}

function unittest(lines: Lines): TestCounts | null {
  const ran = lastNumber(lines, /^Ran ([0-9]+) tests? in [0-9.]+s$/);
  if (ran === null) return null;
  const last = lastLine(lines, /^FAILED \(.*\)$/) ?? '';
  const count = (word: string) => Number(new RegExp(`${word}=([0-9]+)`).exec(last)?.[1] ?? 0);
  const failed = count('failures') + count('errors');
  return { passed: Math.max(0, ran - failed), failed };
}

/** Jest and Vitest: `Tests: 1 failed, 3 passed, 4 total`, `Tests  3 passed (3)`. */
function jest(lines: Lines): TestCounts | null {
  const last = lastLine(lines, /^\s*Tests:?\s+[0-9]+ [a-z]+/);
  if (last === null) return null;
  const count = (word: string) => Number(new RegExp(`([0-9]+) ${word}`).exec(last)?.[1] ?? 0);
  return { passed: count('passed'), failed: count('failed') };
}

function mocha(lines: Lines): TestCounts | null {
  const passed = lastNumber(lines, /^\s+([0-9]+) passing\b/);
  if (passed === null) return null;
  return { passed, failed: lastNumber(lines, /^\s+([0-9]+) failing\b/) ?? 0 };
}

/** One line per test binary: they are added up. */
function cargo(lines: Lines): TestCounts | null {
  const pattern = /^test result: \w+\. ([0-9]+) passed; ([0-9]+) failed;/;
  const found = lines.map(line => pattern.exec(line)).filter(match => match !== null);
  if (found.length === 0) return null;
  const sum = (group: number) => found.reduce((total, match) => total + Number(match[group]), 0);
  return { passed: sum(1), failed: sum(2) };
}

/** `go test -v` names each test; without `-v` a package with tests counts as one. */
function goTest(lines: Lines): TestCounts | null {
  const named = countOf(lines, /^\s*--- PASS: /);
  const passed = named || countOf(lines, /^ok\s+\S+\s+[0-9.(]/);
  const failed = countOf(lines, /^\s*--- FAIL: /);
  return passed + failed === 0 ? null : { passed, failed };
}

const countOf = (lines: Lines, pattern: RegExp): number =>
  lines.reduce((count, line) => (pattern.test(line) ? count + 1 : count), 0);

/** O3. */
function lastLine(lines: Lines, pattern: RegExp): string | null {
  for (let index = lines.length - 1; index >= 0; index -= 1) {
    const line = lines[index] ?? '';
    if (pattern.test(line)) return line;
  }
  return null;
}

function lastNumber(lines: Lines, pattern: RegExp): number | null {
  const last = lastLine(lines, pattern);
  const found = last === null ? undefined : pattern.exec(last)?.[1];
  return found === undefined ? null : Number(found);
}
