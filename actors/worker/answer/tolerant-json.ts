/**
 * JSON as models write it: found in prose, and repaired where that changes nothing that matters.
 *
 * J1: what parses as it stands, or with its raw line breaks escaped, is taken as it stands.
 * J2: repair is the second step, on bounded input, and its result is only believed where every string
 *     of it stands in the source with the same quotes around it: code is never guessed at.
 * J3: the cost is linear in the text but for the repair, whose input and number are bounded.
 */
import { jsonrepair } from 'jsonrepair';

/** jsonrepair needs up to 130 ms for hostile input of this length, and grows with its square. */
export const REPAIR_LENGTH_MAX = 65_536;
const CANDIDATES_MAX = 64;
const FAILED_SCANS_MAX = 4;
const DEPTH_MAX = 48;
/** Strings in a repaired value: more are not looked at one by one. */
const PROVEN_STRINGS_MAX = 2_000;

export type Parsed =
  | { readonly ok: true; readonly value: unknown; readonly exact: boolean }
  | { readonly ok: false; readonly error: string };

/** Parses one JSON value. `repair: false` stops after the first step. */
export function parseTolerant(source: string, options: { readonly repair: boolean }): Parsed {
  const text = source.trim();
  let error: string;
  try {
    const value: unknown = JSON.parse(text);
    return plain(value, true);
  } catch (cause) {
    // Expected: the second step, or the sentence below, is the answer to it.
    error = cause instanceof Error ? cause.message.slice(0, 200) : String(cause);
  }
  const strict = parsed(withEscapedControls(text));
  if (strict !== undefined) return plain(strict, true);
  if (!options.repair || text.length > REPAIR_LENGTH_MAX) return { ok: false, error };
  try {
    const value: unknown = JSON.parse(jsonrepair(text));
    const doubtful = unprovenString(value, text);
    if (doubtful === null) return plain(value, false);
    return { ok: false, error: `${error}; the text at ${JSON.stringify(doubtful)} is not certain` };
  } catch {
    // Beyond repair (or too deep for it): the error of the first step is the one that helps.
    return { ok: false, error };
  }
}

/** The value, or undefined where the text is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Asked as a question: the caller has the error of the first step.
    return undefined;
  }
}

/** A line break inside a string can only mean a line break: escaping it guesses nothing. */
function withEscapedControls(text: string): string {
  return text.replace(/"(?:[^"\\]|\\[\s\S])*(?:"|$)/g, literal =>
    literal.replace(/[\n\r\t]/g, control => CONTROLS[control] ?? control),
  );
}

const CONTROLS: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function plain(value: unknown, exact: boolean): Parsed {
  if (depthOf(value, 0) > DEPTH_MAX) return { ok: false, error: 'nested too deeply' };
  return { ok: true, value, exact };
}

function depthOf(value: unknown, depth: number): number {
  if (typeof value !== 'object' || value === null || depth > DEPTH_MAX) return depth;
  let deepest = depth + 1;
  for (const item of Object.values(value)) deepest = Math.max(deepest, depthOf(item, depth + 1));
  return deepest;
}

/** The beginning of the first string that does not stand in the source as it is (J2). */
function unprovenString(value: unknown, source: string): string | null {
  const waiting: unknown[] = [value];
  let strings = 0;
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (typeof next === 'string') {
      strings += 1;
      if (strings > PROVEN_STRINGS_MAX || !stands(next, source)) return next.slice(0, 40);
    } else if (typeof next === 'object' && next !== null) {
      for (const [key, item] of Object.entries(next)) {
        // A long key is a torn string: repair took code for structure.
        if (key.length > 64 || key.includes('\n')) return key.slice(0, 40);
        waiting.push(item ?? null);
      }
    }
  }
  return null;
}

function stands(value: string, source: string): boolean {
  const escaped = JSON.stringify(value);
  const inner = escaped.slice(1, -1);
  const rawLines = inner.replace(/\\n/g, '\n').replace(/\\r/g, '\r').replace(/\\t/g, '\t');
  const rawBreaks = inner.replace(/\\n/g, '\n').replace(/\\r/g, '\r');
  const single = inner.replace(/\\"/g, '"').replace(/'/g, "\\'");
  return (
    source.includes(escaped) ||
    (!inner.includes('\\\\') &&
      (source.includes(`"${rawLines}"`) || source.includes(`"${rawBreaks}"`))) ||
    source.includes(`'${single}'`)
  );
}

/** The value of a candidate; one from prose whose brackets do not match cannot be any. */
export function parseCandidate(candidate: JsonCandidate, repair: boolean): Parsed {
  if (!candidate.complete && !candidate.fenced) {
    return { ok: false, error: 'its brackets do not match, or it was cut off' };
  }
  return parseTolerant(candidate.text, { repair: repair && candidate.complete });
}

export interface JsonCandidate {
  /** A block of its own, whose text is JSON whether its fence is closed or not. */
  readonly fenced: boolean;
  readonly text: string;
  readonly at: number;
  /** Whether its brackets match, or its fence is closed: if not, it was cut off or is no JSON. */
  readonly complete: boolean;
}

/** Objects and arrays of objects in prose, from left to right, without those inside others. */
export function jsonCandidates(prose: string, offset = 0): JsonCandidate[] {
  const found: JsonCandidate[] = [];
  const starts = /[{[]\s*(?=["'{}])/g;
  let scanned = 0;
  for (let match = starts.exec(prose); match !== null; match = starts.exec(prose)) {
    if (found.length >= CANDIDATES_MAX) break;
    const end = balancedEnd(prose, match.index);
    // Failed scans all run to the end of the text: their number is what has to be bounded (J3).
    if (end === null) scanned += 1;
    const complete = end !== null;
    found.push({
      text: prose.slice(match.index, end ?? prose.length),
      at: offset + match.index,
      complete,
      fenced: false,
    });
    if (end !== null) starts.lastIndex = end;
    if (scanned >= FAILED_SCANS_MAX) break;
  }
  return found;
}

/** The index behind the bracket that closes the one at `start`, or null. */
function balancedEnd(text: string, start: number): number | null {
  let depth = 0;
  let inString = false;
  for (let index = start; index < text.length; index++) {
    const unit = text[index];
    if (inString) {
      if (unit === '\\') index += 1;
      else if (unit === '"') inString = false;
    } else if (unit === '"') inString = true;
    else if (unit === '{' || unit === '[') depth += 1;
    else if (unit === '}' || unit === ']') {
      depth -= 1;
      if (depth === 0) return index + 1;
    }
  }
  return null;
}
