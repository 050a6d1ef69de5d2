/** All dialects that a client may speak, by their name on the wire. */
import type { Dialect } from '../../../protocol/inference.ts';
import { anthropicMessages } from './anthropic.ts';
import type { DialectTranslator } from './dialect.ts';
import { ollamaChat, ollamaEmbed, ollamaGenerate } from './ollama.ts';
import { openaiChat } from './openai-chat.ts';
import { openaiCompletion } from './openai-completion.ts';
import { openaiEmbedding } from './openai-embedding.ts';

export const DIALECTS: Readonly<Record<Dialect, DialectTranslator>> = {
  'openai-chat': openaiChat,
  'openai-completion': openaiCompletion,
  'openai-embedding': openaiEmbedding,
  'ollama-chat': ollamaChat,
  'ollama-generate': ollamaGenerate,
  'ollama-embed': ollamaEmbed,
  'anthropic-messages': anthropicMessages,
};
