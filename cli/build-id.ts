/** Build ids as people type them: `b42`, `42`, `latest`. */
import { CliError } from './exit-code.ts';

/** The id, or `latest`. Throws CliError `usage` for anything else. */
export function parseBuildId(text: string): `b${string}` | 'latest' {
  if (text === 'latest') return 'latest';
  const [, digits] = /^b?([1-9][0-9]{0,15})$/.exec(text) ?? [];
  if (digits !== undefined) return `b${digits}`;
  throw new CliError('usage', `${text} is no build id`, 'builds are named b42, 42 or latest');
}

/** Newest first. */
export function byNewest(left: { readonly id: string }, right: { readonly id: string }): number {
  return Number(right.id.slice(1)) - Number(left.id.slice(1));
}
