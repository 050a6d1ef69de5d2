/** Anthropic's messages on the native chat: the request. */
import { answerOfLines } from './answer-lines.ts';
import { MessageAnswer } from './anthropic-answer.ts';
import { nativeMessages, toolWish } from './anthropic-messages.ts';
import { type DialectTranslator, toldName } from './dialect.ts';
import {
  countField,
  type Fields,
  fieldsField,
  fieldsOf,
  flagField,
  listField,
  numbersOf,
  refusal,
  refuseGiven,
  textOf,
  wordField,
} from './fields.ts';
import { chatFields, ForcedCall } from './forced-call.ts';
import { type Effort, effortOf, thinkOf } from './reasoning.ts';

const UNKNOWN_HERE = {
  mcp_servers: 'is not supported: there are no tools of the server',
  container: 'is not supported',
};

const SAMPLING = { temperature: 'temperature', top_p: 'top_p', top_k: 'top_k' };

export const anthropicMessages: DialectTranslator = (body, asked) => {
  refuseGiven(body, UNKNOWN_HERE);
  const limit = countField(body, 'max_tokens');
  if (limit === undefined || limit === 0) throw refusal('max_tokens', 'has to be at least 1');
  const wish = toolWish(body);
  const chat = chatFields(nativeMessages(body), wish, () => formatOf(body));
  const effort = effortWanted(body);
  const think = thinkOf(effort, asked.facts);
  const stop = listField(body, 'stop_sequences')?.map((word, index) =>
    textOf(word, `stop_sequences[${index}]`),
  );
  const stream = flagField(body, 'stream') ?? false;
  return {
    path: '/api/chat',
    model: asked.model,
    stream,
    ignored: [],
    body: {
      ...chat,
      ...(think === undefined ? {} : { think }),
    },
    options: {
      ...numbersOf(body, SAMPLING),
      num_predict: limit,
      ...(stop === undefined || stop.length === 0 ? {} : { stop }),
    },
    answer: answerOfLines(
      new MessageAnswer({
        name: asked.request.slice(2),
        model: toldName(body, asked),
        stream,
        thoughts: effort !== 'none',
        forced: wish.forced ? new ForcedCall() : null,
      }),
    ),
  };
};

/** These clients get thoughts only where they ask for them. */
function effortWanted(body: Fields): Effort {
  const thinking = fieldsField(body, 'thinking')?.['type'] ?? 'disabled';
  if (thinking === 'disabled') return 'none';
  if (thinking !== 'enabled' && thinking !== 'adaptive') {
    throw refusal('thinking.type', 'is none of enabled, adaptive, disabled');
  }
  const effort = wordField(fieldsField(body, 'output_config') ?? {}, 'effort');
  return effort === undefined ? 'medium' : effortOf(effort, 'output_config.effort');
}

function formatOf(body: Fields): Fields | undefined {
  const wanted =
    fieldsField(fieldsField(body, 'output_config') ?? {}, 'format') ??
    fieldsField(body, 'output_format');
  if (wanted === undefined) return undefined;
  if (wanted['type'] !== 'json_schema')
    throw refusal('output_format.type', 'can only be json_schema');
  return fieldsOf(wanted['schema'], 'output_format.schema');
}
