/**
 * How many tests a check ran, read from the summary that its runner prints at the end.
 *
 * O1: zero tests collected, or no summary that we know, is never a pass, whatever the exit code.
 * O2: `node --test` counts a file without any test in it as one passed test; such files are not
 *     tests here.
 * O3: the last summary wins: text that the tested program printed before it does not count.
 */

export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
}

/** The counts, or null where no summary is known. `output` is standard output and error as printed. */
export function countTests(output: string): TestCounts | null {
  const text = output.replace(ANSI, '');
  for (const read of READERS) {
    const counts = read(text);
    if (counts !== null) return counts;
  }
  return null;
}

export function isPass(exitCode: number | null, counts: TestCounts | null): boolean {
  return exitCode === 0 && counts !== null && counts.failed === 0 && counts.passed > 0; // O1
}

const ANSI = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');

const READERS = [node, pytest, unittest, jest, mocha, cargo, goTest] as const;

function node(text: string): TestCounts | null {
  const tests = lastNumber(text, /^(?:#|ℹ) tests ([0-9]+)$/gm);
  const passed = lastNumber(text, /^(?:#|ℹ) pass ([0-9]+)$/gm);
  if (tests === null || passed === null) return null;
  const failed = lastNumber(text, /^(?:#|ℹ) fail ([0-9]+)$/gm) ?? 0;
  const cancelled = lastNumber(text, /^(?:#|ℹ) cancelled ([0-9]+)$/gm) ?? 0;
  const files = text.match(/^(?:ok [0-9]+ - |✔ )\/\S+\.[cm]?[jt]sx?(?: \([0-9.]+ms\))?$/gm) ?? []; // O2
  return { passed: Math.max(0, passed - files.length), failed: failed + cancelled };
}

function pytest(text: string): TestCounts | null {
  const lines = text.match(
    /^=*\s?(?:no tests ran|[0-9]+ [a-z]+)(?:, [0-9]+ [a-z]+)* in [0-9.]+s.*$/gm,
  );
  const last = lines?.at(-1);
  if (last === undefined) return null;
  const count = (word: string) => Number(new RegExp(`([0-9]+) ${word}`).exec(last)?.[1] ?? 0);
  return { passed: count('passed'), failed: count('failed') + count('errors?') };
}

function unittest(text: string): TestCounts | null {
  const ran = lastNumber(text, /^Ran ([0-9]+) tests? in [0-9.]+s$/gm);
  if (ran === null) return null;
  const last = text.match(/^FAILED \(.*\)$/gm)?.at(-1) ?? '';
  const count = (word: string) => Number(new RegExp(`${word}=([0-9]+)`).exec(last)?.[1] ?? 0);
  const failed = count('failures') + count('errors');
  return { passed: Math.max(0, ran - failed), failed };
}

/** Jest and Vitest: `Tests: 1 failed, 3 passed, 4 total`, `Tests  3 passed (3)`. */
function jest(text: string): TestCounts | null {
  const last = text.match(/^\s*Tests:?\s+(?:[0-9]+ [a-z]+).*$/gm)?.at(-1);
  if (last === undefined) return null;
  const count = (word: string) => Number(new RegExp(`([0-9]+) ${word}`).exec(last)?.[1] ?? 0);
  return { passed: count('passed'), failed: count('failed') };
}

function mocha(text: string): TestCounts | null {
  const passed = lastNumber(text, /^\s+([0-9]+) passing\b/gm);
  if (passed === null) return null;
  return { passed, failed: lastNumber(text, /^\s+([0-9]+) failing\b/gm) ?? 0 };
}

/** One line per test binary: they are added up. */
function cargo(text: string): TestCounts | null {
  const lines = [...text.matchAll(/^test result: \w+\. ([0-9]+) passed; ([0-9]+) failed;/gm)];
  if (lines.length === 0) return null;
  const sum = (group: number) => lines.reduce((total, line) => total + Number(line[group]), 0);
  return { passed: sum(1), failed: sum(2) };
}

/** `go test -v` names each test; without `-v` a package with tests counts as one. */
function goTest(text: string): TestCounts | null {
  const count = (pattern: RegExp) => text.match(pattern)?.length ?? 0;
  const passed = count(/^\s*--- PASS: /gm) || count(/^ok\s+\S+\s+[0-9.(]/gm);
  const failed = count(/^\s*--- FAIL: /gm);
  return passed + failed === 0 ? null : { passed, failed };
}

/** O3. */
function lastNumber(text: string, pattern: RegExp): number | null {
  const last = [...text.matchAll(pattern)].at(-1)?.[1];
  return last === undefined ? null : Number(last);
}
