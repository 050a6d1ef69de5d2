/** `/api/chat` and `/api/generate`. */
import { ApiError } from './api-error.ts';
import {
  checkCapability,
  checkThinking,
  type Inference,
  infer,
  keepOf,
  messagesOf,
} from './infer.ts';
import { type Exchange, findModel, type NodeState, textOf } from './node-state.ts';
import { sendJson } from './player.ts';
import { textTokens } from './prompt.ts';
import { emptyReply, NativeVoice, type Voice } from './voice.ts';

export async function chat(state: NodeState, exchange: Exchange, voice?: Voice): Promise<void> {
  const { body } = exchange;
  const asked = textOf(body['model']);
  if (asked === '') throw new ApiError(400, 'model is required');
  const keepMs = keepOf(body);
  const messages = messagesOf(body['messages']);
  const model = findModel(state, asked);
  if (messages.length === 0 && keepMs === 0) {
    state.scheduler.expire(model);
    sendJson(exchange.response, 200, emptyReply(asked, true, 'unload'));
    return;
  }
  const tools = Array.isArray(body['tools']) ? body['tools'] : [];
  const streams = body['stream'] !== false;
  const inference: Inference = {
    model,
    asked,
    messages,
    tools,
    rawTokens: null,
    voice: voice ?? new NativeVoice(asked, { streams, chat: true }),
    loadReply: messages.length === 0 ? emptyReply(asked, true, 'load') : null,
  };
  checkThinking(inference, body['think']);
  if (!model.capabilities.includes('completion')) {
    throw new ApiError(400, `"${asked}" does not support chat`);
  }
  if (tools.length > 0) checkCapability(model, 'tools');
  await infer(state, exchange, inference);
}

export async function generate(state: NodeState, exchange: Exchange, voice?: Voice): Promise<void> {
  const { body } = exchange;
  const asked = textOf(body['model']);
  const keepMs = keepOf(body);
  const model = findModel(state, asked);
  const prompt = textOf(body['prompt']);
  if (prompt === '' && keepMs === 0) {
    state.scheduler.expire(model);
    sendJson(exchange.response, 200, emptyReply(asked, false, 'unload'));
    return;
  }
  const system = textOf(body['system']);
  const user = { role: 'user', content: prompt, images: body['images'] };
  const messages = system === '' ? [user] : [{ role: 'system', content: system }, user];
  const inference: Inference = {
    ...{ model, asked, messages: messagesOf(messages), tools: [] },
    rawTokens: body['raw'] === true ? textTokens(model, prompt) : null,
    voice: voice ?? new NativeVoice(asked, { streams: body['stream'] !== false, chat: false }),
    loadReply: prompt === '' ? emptyReply(asked, false, 'load') : null,
  };
  checkThinking(inference, body['think']);
  if (!model.capabilities.includes('completion')) {
    throw new ApiError(400, `"${asked}" does not support generate`);
  }
  if (textOf(body['suffix']) !== '') checkCapability(model, 'insert');
  await infer(state, exchange, inference);
}
