/**
 * The key of the HTTP door that the machine's owner has: made at the first start of a master, kept in
 * the owner's configuration folder, presented by the command line at the door of its own home only.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Paths } from './paths.ts';
import { ensureSecret, readSecret } from './secret-file.ts';

const SECRET_BYTES = 32;

/** `cg_` and 256 random bits, so that a plain SHA-256 of it cannot be turned back. */
export const newDoorKey = (): string => `cg_${randomBytes(SECRET_BYTES).toString('base64url')}`;

const keyFile = (paths: Paths): string => join(paths.config, 'http-owner.key');

export const ensureDoorKey = (paths: Paths): string => ensureSecret(keyFile(paths), newDoorKey);

/** Null where no master has run in this home yet. */
export const readDoorKey = (paths: Paths): string | null => readSecret(keyFile(paths));
