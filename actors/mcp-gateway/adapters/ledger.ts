/** What this room asks of a journal: values under keys, on the disk before `put` returns. */

export interface Ledger {
  get(key: string): Promise<unknown | null>;
  put(key: string, value: unknown): Promise<void>;
}
