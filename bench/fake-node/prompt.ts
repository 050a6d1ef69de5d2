/**
 * How many tokens a prompt has, in the ChatML that the models of `test/real-ollama` are given: with
 * one byte per token the counts are those of the real server.
 */
import type { FakeModel } from './fake-model.ts';

export interface Message {
  readonly role: string;
  readonly content: string;
  readonly images: number;
}

/** Of one image where the model sees; a model that does not is shown the tag `[img-0]`. */
const IMAGE_TOKENS = 768;
const IMAGE_TAG = '[img-0]';
const TAIL = 'assistant\n';

export function textTokens(model: FakeModel, text: string): number {
  return Math.ceil(Buffer.byteLength(text) / model.bytesPerToken);
}

function messageTokens(model: FakeModel, { role, content, images }: Message): number {
  const image = model.capabilities.includes('vision') ? IMAGE_TOKENS : textTokens(model, IMAGE_TAG);
  // <|im_start|>role\ncontent<|im_end|>\n
  return 2 + textTokens(model, `${role}\n${content}\n`) + images * image;
}

export interface Prompt {
  readonly messages: readonly Message[];
  /** Of the tools as the template shows them. */
  readonly toolTokens: number;
  /** The answer begins inside of a thought. */
  readonly thinks: boolean;
}

export function promptTokens(model: FakeModel, { messages, toolTokens, thinks }: Prompt): number {
  const tail = 1 + textTokens(model, thinks ? `${TAIL}<think>` : TAIL);
  return messages.reduce((sum, one) => sum + messageTokens(model, one), tail + toolTokens);
}

/** Without the oldest messages, until it fits; the system's and the last one stay. */
export function shortened(model: FakeModel, prompt: Prompt, contextTokens: number): Prompt {
  const { messages } = prompt;
  for (let from = 0; from < messages.length; from++) {
    const system = messages.slice(0, from).filter(({ role }) => role === 'system');
    const rest = { ...prompt, messages: [...system, ...messages.slice(from)] };
    const last = from === messages.length - 1;
    if (last || promptTokens(model, rest) <= contextTokens) return rest;
  }
  return prompt;
}
