/**
 * Whether a model can do what its template claims: one short question per digest and capability,
 * asked when somebody first needs it, of a copy that is loaded and held anyway.
 */
import type { ChatResponse, Ollama, Tool } from 'ollama';
import { HttpFailure } from './http-fetch.ts';
import type { DetailsStore } from './ollama-catalog.ts';
import { type CopyTerms, canonicalFields, type NativeChat } from './ollama-options.ts';

export type ProbedCapability = 'tools' | 'thinking';

/** Enough for a call of one argument, or for the beginning of a thought. */
const PROBE_TOKENS = 96;
const ASKED_MAX = 1_024;

const TOOL: Tool = {
  type: 'function',
  function: {
    name: 'report_number',
    description: 'Reports a number.',
    parameters: {
      type: 'object',
      required: ['number'],
      properties: { number: { type: 'integer', description: 'the number' } },
    },
  },
};

export interface ProbedCopy extends CopyTerms {
  readonly model: string;
  readonly digest: string;
}

/** Answers by digest, kept over restarts; who asks while it is being asked waits for the same. */
export class OllamaProbes {
  readonly #store: DetailsStore | null;
  readonly #asked = new Map<string, Promise<boolean>>();

  constructor(store: DetailsStore | null) {
    this.#store = store;
  }

  async ask(client: Ollama, copy: ProbedCopy, capability: ProbedCapability): Promise<boolean> {
    const key = `probe/${copy.digest}/${capability}`;
    const asked = this.#asked.get(key);
    if (asked !== undefined) return asked;
    if (this.#asked.size >= ASKED_MAX) this.#asked.clear();
    const answer = this.#find(client, copy, capability, key);
    this.#asked.set(key, answer);
    try {
      return await answer;
    } catch (error) {
      this.#asked.delete(key); // Not an answer: the next one asks again.
      throw error;
    }
  }

  async #find(
    client: Ollama,
    copy: ProbedCopy,
    capability: ProbedCapability,
    key: string,
  ): Promise<boolean> {
    const known = await this.#store?.get(key);
    if (typeof known === 'boolean') return known;
    const works = await probeCapability(client, copy, capability);
    await this.#store?.put(key, works);
    return works;
  }
}

/** True or false as seen; throws where the question could not be answered at all. */
async function probeCapability(
  client: Ollama,
  { model, ...terms }: ProbedCopy,
  capability: ProbedCapability,
): Promise<boolean> {
  const isTools = capability === 'tools';
  const content = isTools
    ? 'Call report_number with the number 7. Answer with the call only.'
    : 'What is 17 + 25?';
  const chat: NativeChat & { stream: false } = {
    model,
    messages: [{ role: 'user', content }],
    stream: false,
    ...canonicalFields(terms, { num_predict: PROBE_TOKENS, temperature: 0 }),
    ...(isTools ? { tools: [TOOL] } : { think: true }),
  };
  let answer: ChatResponse;
  try {
    answer = await client.chat(chat);
  } catch (error) {
    // Refused as a wish that cannot be granted, or a call that the server could not read.
    if (error instanceof HttpFailure && (error.status === 400 || isUnreadCall(error))) return false;
    throw error;
  }
  const { tool_calls, thinking } = answer.message;
  if (!isTools) return (thinking ?? '').trim() !== '';
  return (tool_calls ?? []).some(call => call.function.name === TOOL.function.name);
}

const isUnreadCall = ({ status, message }: HttpFailure): boolean =>
  status === 500 && /pars|tool call/i.test(message);
