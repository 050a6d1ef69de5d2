/** Sizes as people write them: `24GiB`, `4.7GB`, `512 MiB`, `1e9`. */

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

export function parseBytes(text: string): number {
  const found = /^\s*([\d.]+(?:e\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  const unit = UNITS[(found?.[2] ?? '?').toUpperCase()];
  const bytes = Number(found?.[1]) * (unit ?? Number.NaN);
  if (!Number.isFinite(bytes)) throw new Error(`not a size: ${text}`);
  return Math.round(bytes);
}

/** `3s`, `250ms`, `2m`; a bare number is seconds. */
export function parseMs(text: string): number {
  const found = /^\s*([\d.]+)\s*(ms|s|m|)\s*$/.exec(text);
  const unit = { ms: 1, s: 1_000, m: 60_000, '': 1_000 }[found?.[2] ?? '?'];
  const ms = Number(found?.[1]) * (unit ?? Number.NaN);
  if (!Number.isFinite(ms)) throw new Error(`not a time: ${text}`);
  return ms;
}
