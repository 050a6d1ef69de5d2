/**
 * Whether a model thinks when it is told to, as its template claims: one short question per digest,
 * asked when somebody first wants it, of a copy that is loaded and held anyway.
 */

import type { ChatResponse, Ollama } from 'ollama';
import { WORKER_KEYS } from '../../../runtime/journal-keys.ts';
import { HttpFailure } from './http-fetch.ts';
import type { DetailsStore } from './ollama-catalog.ts';
import { type CopyTerms, canonicalFields, type NativeChat } from './ollama-options.ts';

/** Enough for the beginning of a thought. */
const PROBE_TOKENS = 96;
const ASKED_MAX = 1_024;

export interface ProbedCopy extends CopyTerms {
  readonly model: string;
  readonly digest: string;
}

/** Answers by digest, kept over restarts; who asks while it is being asked waits for the same. */
export class ThinkingProbes {
  readonly #store: DetailsStore | null;
  readonly #asked = new Map<string, Promise<boolean>>();

  constructor(store: DetailsStore | null) {
    this.#store = store;
  }

  async thinks(client: Ollama, copy: ProbedCopy): Promise<boolean> {
    const key = `${WORKER_KEYS.probes}${copy.digest}/thinking`;
    const asked = this.#asked.get(key);
    if (asked !== undefined) return asked;
    if (this.#asked.size >= ASKED_MAX) this.#asked.clear();
    const answer = this.#find(client, copy, key);
    this.#asked.set(key, answer);
    try {
      return await answer;
    } catch (error) {
      this.#asked.delete(key); // Not an answer: the next one asks again.
      throw error;
    }
  }

  async #find(client: Ollama, copy: ProbedCopy, key: string): Promise<boolean> {
    const known = await this.#store?.get(key);
    if (typeof known === 'boolean') return known;
    const thinks = await probe(client, copy);
    await this.#store?.put(key, thinks);
    return thinks;
  }
}

/** True or false as seen; throws where the question could not be answered at all. */
async function probe(client: Ollama, { model, ...terms }: ProbedCopy): Promise<boolean> {
  const chat: NativeChat & { stream: false } = {
    ...{ model, stream: false, think: true },
    messages: [{ role: 'user', content: 'What is 17 + 25?' }],
    ...canonicalFields(terms, { num_predict: PROBE_TOKENS, temperature: 0 }),
  };
  let answer: ChatResponse;
  try {
    answer = await client.chat(chat);
  } catch (error) {
    // Refused as a wish that cannot be granted.
    if (error instanceof HttpFailure && error.status === 400) return false;
    throw error;
  }
  return (answer.message.thinking ?? '').trim() !== '';
}
