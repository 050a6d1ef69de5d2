/**
 * Shortens a file to the lines that others call it by: imports, exports, definitions, routes. Only
 * for files that a task reads: what a task must change it has to see whole.
 */
import { estimateTokens } from './tokens.ts';

const SIGNATURE =
  /^\s{0,4}(?:import\b|from\b|export\b|(?:async )?(?:function|def)\b|class\b|interface\b|type\b|enum\b|(?:const|let|var)\s+\w+\s*=\s*(?:async\s*)?(?:\(|function\b|class\b)|@\w|public\b|(?:app|router)\.\w+\(|CREATE\b|#{1,3} )/i;
const LINES_MAX = 200;

/** The text itself where it is short enough, its signatures otherwise. */
export function signaturesOf(path: string, text: string, tokensMax: number): string {
  if (tokensMax === Number.POSITIVE_INFINITY || estimateTokens(text) <= tokensMax) return text;
  const lines = text.split('\n');
  const kept = lines.filter(line => line.length <= 240 && SIGNATURE.test(line)).slice(0, LINES_MAX);
  const note = `(${path} has ${lines.length} lines; only its signatures are shown)`;
  return `${[note, ...kept].join('\n')}\n`;
}
