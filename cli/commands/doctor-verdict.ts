/** What a check of `doctor` says: how it stands, and where it does not, the one thing to do. */

export interface Verdict {
  readonly status: 'ok' | 'warn' | 'fail';
  readonly detail: string;
  /** What to do; null where nothing is wrong. */
  readonly fix: string | null;
}

export const ok = (detail: string): Verdict => ({ status: 'ok', detail, fix: null });
export const warn = (detail: string, fix: string): Verdict => ({ status: 'warn', detail, fix });
export const fail = (detail: string, fix: string): Verdict => ({ status: 'fail', detail, fix });
