/**
 * The tokens by which other machines join the bus of this one: what is kept of each in
 * `join-tokens.json`. A token is the seed of a user of the bus and admits one node.
 *
 * J1  The seed is shown once and never kept here; this file holds public keys.
 * J2  A list that cannot be read admits nobody and says so: it is not taken for an empty one.
 * J3  Changes are made under a lock, and the list is replaced in one step.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { CodeGodError } from '../../protocol/errors.ts';
import { NodeId } from '../../protocol/ids.ts';
import { EpochMs } from '../../protocol/text.ts';
import { withProcessLock } from '../process-lock.ts';
import { readIfThere } from '../read-if-there.ts';

const TOKENS_MAX = 1_000;
const LOCK_WAIT_MS = 10_000;
const ID_LENGTH = 7;

const JoinToken = z.object({
  /** By which people name it: the first letters of its key. */
  id: z.string().max(63),
  /** The node that it admits. */
  node: NodeId,
  public_key: z.string().regex(/^U[A-Z2-7]{55}$/),
  created_at: EpochMs,
  /** Null: until it is revoked. */
  expires_at: EpochMs.nullable(),
});
export type JoinToken = z.infer<typeof JoinToken>;

const List = z.object({ tokens: z.array(JoinToken).max(TOKENS_MAX) });

const listFile = (configDir: string): string => join(configDir, 'join-tokens.json');

/** Short enough to type, long enough to differ among a thousand. */
export const tokenIdOf = (publicKey: string): string =>
  publicKey.slice(1, 1 + ID_LENGTH).toLowerCase();

export const isExpired = (token: JoinToken, now: number): boolean =>
  token.expires_at !== null && token.expires_at <= now;

/** Null where there has never been a token. @throws CodeGodError `config_invalid` (J2) */
export function readTokens(configDir: string): readonly JoinToken[] | null {
  const file = listFile(configDir);
  const text = readIfThere(file);
  if (text === null) return null;
  try {
    return List.parse(JSON.parse(text)).tokens;
  } catch (cause) {
    throw new CodeGodError('config_invalid', `${file} is damaged`, {
      cause,
      hint: `remove it: all machines that joined then need a new token`,
    });
  }
}

/** Replaces the list by what `change` makes of it; answers what `change` wants answered (J3). */
export async function changeTokens<T>(
  configDir: string,
  change: (tokens: readonly JoinToken[]) => {
    readonly tokens: readonly JoinToken[];
    readonly answer: T;
  },
): Promise<T> {
  return await lockTokens(configDir, async () => {
    const { tokens, answer } = change(readTokens(configDir) ?? []);
    if (tokens.length > TOKENS_MAX) {
      throw new CodeGodError('overloaded', `there are ${TOKENS_MAX} tokens already`, {
        hint: '`codegod token revoke ID` makes room',
      });
    }
    const file = listFile(configDir);
    writeFileSync(`${file}.new`, `${JSON.stringify({ tokens }, null, 2)}\n`, { mode: 0o600 });
    renameSync(`${file}.new`, file);
    return answer;
  });
}

/** Keeps the list as it is while `work` acts on it. */
export function lockTokens<T>(configDir: string, work: () => Promise<T>): Promise<T> {
  return withProcessLock(`${listFile(configDir)}.lock`, { waitMs: LOCK_WAIT_MS }, work);
}
