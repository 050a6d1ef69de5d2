/**
 * How long an engine may be silent while it reads a prompt. An engine that reads says nothing, however
 * long that takes; what it is given grows with the prompt, and with how slowly it has read before.
 */

/** So many tokens are read in the shortest of these waits: 10 a second where it is 5 minutes. */
const TOKENS_IN_BASE = 3_000;
/** Of what was expected: other requests are read between the parts of a prompt. */
const EXPECTED_FACTOR = 8;
/** Nothing is waited for longer. */
const READING_MS_MAX = 3_600_000;
/** Vocabularies of the present models give 3.3 to 4.5 bytes per token. */
const BYTES_PER_TOKEN = 3;

export const tokensIn = (textLength: number): number => Math.ceil(textLength / BYTES_PER_TOKEN);

/** `baseMs` is what a short prompt is given; `expectedMs` null: nobody has seen this model read. */
export function readingLimitMs(baseMs: number, tokens: number, expectedMs: number | null): number {
  const byLength = baseMs * (tokens / TOKENS_IN_BASE);
  const wanted = Math.max(byLength, (expectedMs ?? 0) * EXPECTED_FACTOR);
  return Math.max(baseMs, Math.min(wanted, READING_MS_MAX));
}
