/** `/v1/…`: OpenAI's requests put into Ollama's words, and answered in OpenAI's. */
import { ApiError } from './api-error.ts';
import { embed } from './embed.ts';
import { chat, generate } from './native.ts';
import {
  type Body,
  type Exchange,
  findModel,
  type NodeState,
  recordOf,
  textOf,
} from './node-state.ts';
import { sendText } from './player.ts';
import { OpenAiVoice } from './voice.ts';

let answers = 0;

export async function chatCompletions(state: NodeState, exchange: Exchange): Promise<void> {
  const { body } = exchange;
  if (!Array.isArray(body['messages']) || body['messages'].length === 0) {
    throw new ApiError(400, "[] is too short - 'messages'");
  }
  const format = recordOf(body['response_format']);
  const schema = recordOf(format['json_schema'])['schema'];
  const { reasoning_effort: effort } = body;
  const native: Body = {
    ...nativeBody(body),
    messages: body['messages'].map(nativeMessage),
    tools: body['tools'],
    ...(format['type'] === 'json_object' ? { format: 'json' } : {}),
    ...(format['type'] === 'json_schema' ? { format: schema } : {}),
    ...(effort === undefined ? {} : { think: effort === 'none' ? false : effort }),
  };
  await chat(state, { ...exchange, body: native }, voiceOf(body, true));
}

export async function completions(state: NodeState, exchange: Exchange): Promise<void> {
  const { body } = exchange;
  const native = { ...nativeBody(body), prompt: body['prompt'], suffix: body['suffix'] };
  await generate(state, { ...exchange, body: native }, voiceOf(body, false));
}

export async function embeddings(state: NodeState, exchange: Exchange): Promise<void> {
  const { body } = exchange;
  const { vectors, tokens } = await embed(state, exchange);
  const base64 = body['encoding_format'] === 'base64';
  const encoded = (vector: readonly number[]): unknown =>
    base64 ? Buffer.from(Float32Array.from(vector).buffer).toString('base64') : vector;
  const data = vectors.map((vector, index) => ({
    ...{ object: 'embedding', embedding: encoded(vector), index },
  }));
  const usage = { prompt_tokens: tokens, total_tokens: tokens };
  sendLine(exchange, { object: 'list', data, model: textOf(body['model']), usage });
}

export function models(state: NodeState, exchange: Exchange): void {
  const data = [...state.models.values()].map(({ name }) => entry(name));
  sendLine(exchange, { object: 'list', data });
}

export function model(state: NodeState, exchange: Exchange, name: string): void {
  findModel(state, name);
  sendLine(exchange, entry(name));
}

/** An error in OpenAI's shape. Ollama calls all that its own handlers refuse `api_error`. */
export function sendError({ response }: Exchange, { status, message }: ApiError): void {
  const type = message.endsWith("- 'messages'") ? 'invalid_request_error' : 'api_error';
  const error = { message, type, param: null, code: null };
  sendText(response, status, 'application/json', `${JSON.stringify({ error })}\n`);
}

function voiceOf(body: Body, isChat: boolean): OpenAiVoice {
  answers = (answers + 1) % 1_000;
  return new OpenAiVoice(textOf(body['model']), {
    streams: body['stream'] === true,
    chat: isChat,
    id: answers,
    includeUsage: recordOf(body['stream_options'])['include_usage'] === true,
  });
}

function nativeBody(body: Body): Body {
  const most = body['max_completion_tokens'] ?? body['max_tokens'];
  return {
    model: body['model'],
    stream: body['stream'] === true,
    options: typeof most === 'number' ? { num_predict: most } : {},
  };
}

/** Parts of a message's content: texts joined, images apart. */
function nativeMessage(message: unknown): Body {
  const { role, content } = recordOf(message);
  if (!Array.isArray(content)) return { role, content };
  const texts = content.map(part => textOf(recordOf(part)['text']));
  const images = content.flatMap(part => {
    const { image_url: image } = recordOf(part);
    const url = textOf(recordOf(image)['url'] ?? image);
    return url === '' ? [] : [url.slice(url.indexOf(',') + 1)];
  });
  return { role, content: texts.join(''), images };
}

const entry = (id: string): object => ({
  ...{ id, object: 'model', created: 1_767_225_600, owned_by: 'library' },
});

const sendLine = ({ response }: Exchange, value: unknown): void =>
  sendText(response, 200, 'application/json', `${JSON.stringify(value)}\n`);
