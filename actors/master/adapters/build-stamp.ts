/** The stamp of a build, from the moment at which the bus stored its request. */
import { createHash } from 'node:crypto';
import { BuildStamp } from '../../../protocol/ids.ts';
import type { StoredMessage } from '../../../runtime/bus.ts';

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';
const LENGTH = 8;

/** The same for every delivery of a message, and another one for every other message. */
export function stampOf({ seq, time }: Pick<StoredMessage, 'seq' | 'time'>): BuildStamp {
  const hash = createHash('sha256')
    .update(`${seq} ${Date.parse(time)}`)
    .digest();
  const letters = [...hash.subarray(0, LENGTH)].map(byte => ALPHABET[byte % ALPHABET.length]);
  return BuildStamp.parse(letters.join(''));
}
