/** The key pairs by which users of the bus are known: a seed that is secret, a public key that is not. */
import { nkeys } from '@nats-io/nats-core';
import { CodeGodError } from '../protocol/errors.ts';

export interface UserKey {
  /** `SU…`: whoever has it is the user. */
  readonly seed: string;
  /** `U…`: what the server knows of the user. */
  readonly publicKey: string;
}

export function createUserKey(): UserKey {
  const pair = nkeys.createUser();
  return { seed: new TextDecoder().decode(pair.getSeed()), publicKey: pair.getPublicKey() };
}

/** @throws CodeGodError `config_invalid` where the text is no seed of a user; never quotes it */
export function publicKeyOf(seed: string, where: string): string {
  try {
    if (!seed.startsWith('SU')) throw new Error('it does not start with SU');
    return nkeys.fromSeed(new TextEncoder().encode(seed)).getPublicKey();
  } catch (cause) {
    throw new CodeGodError('config_invalid', `${where} is not the seed of a user of the bus`, {
      cause,
      hint: 'a seed is one word that starts with SU, as `codegod token create` prints it',
    });
  }
}
