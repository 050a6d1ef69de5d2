/**
 * A pattern from a plain list of phrases, one or several to a line.
 */

/**
 * @param phrases parts of a regular expression, separated by commas or line ends
 * @returns a source that matches any of them
 */
export function anyOf(phrases: string): string {
  const parts = phrases
    .split(/[,\n]/)
    .map(phrase => phrase.trim())
    .filter(phrase => phrase !== '');
  return `(?:${parts.join('|')})`;
}
