/**
 * One thing at a time per key, in order of asking; different keys run side by side.
 *
 * K1: a failed turn does not stop the turns behind it.
 * K2: a key without turns is forgotten, so the map cannot grow with the number of builds.
 * K3: at most `waitingMax` turns wait behind one key; further ones are refused with `overloaded`.
 */
import { CodeGodError } from '../../protocol/errors.ts';

export interface KeyedQueue {
  run<T>(key: string, turn: () => Promise<T>): Promise<T>;
}

interface Line {
  tail: Promise<void>;
  length: number;
}

export function createKeyedQueue(waitingMax = 256): KeyedQueue {
  const lines = new Map<string, Line>();
  return {
    async run(key, turn) {
      const line = lines.get(key) ?? { tail: Promise.resolve(), length: 0 };
      if (line.length >= waitingMax) {
        throw new CodeGodError('overloaded', `more than ${waitingMax} requests wait for ${key}`);
      }
      lines.set(key, line);
      line.length += 1;
      const before = line.tail;
      let finish: () => void = () => {};
      line.tail = new Promise(resolve => {
        finish = resolve;
      });
      await before;
      try {
        return await turn();
      } finally {
        line.length -= 1;
        if (line.length === 0) lines.delete(key); // K2
        finish(); // K1
      }
    },
  };
}
