/** Moments as people type them: `10m` ago or from now, or a date. */

/** `10m`, `2h`, `30s`, `1d` ago, or a date; as milliseconds since the epoch. Null: neither. */
export const parseSince = (text: string, now: number): number | null => moment(text, now, -1);

/** The same from now on: `30d` is in thirty days. */
export const parseUntil = (text: string, now: number): number | null => moment(text, now, 1);

function moment(text: string, now: number, direction: 1 | -1): number | null {
  const [, amount, unit] = /^(\d+)([smhd])$/.exec(text) ?? [];
  if (amount !== undefined && unit !== undefined) {
    const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit] ?? 0;
    return now + direction * Number(amount) * unitMs;
  }
  const date = Date.parse(text);
  return Number.isNaN(date) ? null : date;
}
