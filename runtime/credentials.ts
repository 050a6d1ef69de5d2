/** What this process presents to the bus: a shared token, or the seed in a file; nothing where neither is set. */
import { CodeGodError } from '../protocol/errors.ts';
import type { Config } from './config.ts';
import type { NatsCredentials } from './nats-bus.ts';
import { publicKeyOf } from './nats-keys.ts';
import { readSeed } from './nats-server/users.ts';

/** @throws CodeGodError `config_invalid` where the file is missing or holds no seed */
export function credentialsOf(config: Config): NatsCredentials | undefined {
  const { token, nkey_file: file } = config.bus;
  if (token !== undefined) return { token };
  return file === undefined ? undefined : seedIn(file);
}

export function seedIn(file: string): NatsCredentials {
  const nkeySeed = readSeed(file);
  if (nkeySeed === null) {
    throw new CodeGodError('config_invalid', `bus.nkey_file: there is no ${file}`, {
      hint: 'join again with `codegod join`, or name the right file',
    });
  }
  publicKeyOf(nkeySeed, file);
  return { nkeySeed };
}
