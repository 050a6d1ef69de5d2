/**
 * How many tokens a text will cost, without the model's tokenizer: an estimate that errs upwards for
 * prose and code of every language, so that a prompt that fits by it is not cut by the engine.
 */

/** Byte-pair vocabularies of the present models give 3.3 to 4.5 bytes per token. */
const BYTES_PER_TOKEN = 3;
/** Role marks and the like around each message. */
const TOKENS_PER_MESSAGE = 8;

export function estimateTokens(text: string): number {
  let bytes = 0;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    // Half of a surrogate pair stands for two of the pair's four bytes.
    bytes += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3;
  }
  return Math.ceil(bytes / BYTES_PER_TOKEN);
}

export const messagesTokens = (messages: readonly { readonly content: string }[]): number =>
  messages.reduce((sum, { content }) => sum + estimateTokens(content) + TOKENS_PER_MESSAGE, 0);
