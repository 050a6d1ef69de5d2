/** The messages and tools of a chat as OpenAI's clients write them, in native form. */
import {
  type Fields,
  fieldsField,
  fieldsOf,
  listField,
  listOf,
  refusal,
  textOf,
} from './fields.ts';
import type { NativeMessage, NativeTool, NativeToolCall } from './native.ts';

const DATA_URL = /^data:(image\/[a-z0-9.+-]+)?;base64,/i;

export function nativeMessages(body: Fields): NativeMessage[] {
  const messages = listField(body, 'messages') ?? [];
  if (messages.length === 0) throw refusal('messages', 'has to hold at least one message');
  const toolNames = new Map<string, string>();
  return messages.map((value, index) => {
    const param = `messages[${index}]`;
    const message = fieldsOf(value, param);
    const { text, images } = contentOf(message, param);
    const base = { content: text, ...(images.length === 0 ? {} : { images }) };
    switch (message['role']) {
      case 'system':
      case 'developer':
        return { role: 'system', ...base };
      case 'user':
        return { role: 'user', ...base };
      case 'assistant':
        return { role: 'assistant', ...base, ...saidBefore(message, param, toolNames) };
      case 'tool': {
        const id = textOf(message['tool_call_id'], `${param}.tool_call_id`);
        const name = toolNames.get(id);
        const named = name === undefined ? {} : { tool_name: name };
        return { role: 'tool', ...base, tool_call_id: id, ...named };
      }
      default:
        throw refusal(`${param}.role`, 'is none of system, developer, user, assistant, tool');
    }
  });
}

function contentOf(message: Fields, param: string): { text: string; images: string[] } {
  const content = message['content'] ?? null;
  if (typeof content === 'string') return { text: content, images: [] };
  if (content === null) {
    if (message['role'] === 'assistant') return { text: '', images: [] };
    throw refusal(`${param}.content`, 'is missing');
  }
  const texts: string[] = [];
  const images: string[] = [];
  for (const [index, value] of listOf(content, `${param}.content`).entries()) {
    const at = `${param}.content[${index}]`;
    const part = fieldsOf(value, at);
    if (part['type'] === 'text') texts.push(textOf(part['text'], `${at}.text`));
    else if (part['type'] === 'refusal') texts.push(textOf(part['refusal'], `${at}.refusal`));
    else if (part['type'] === 'image_url') images.push(imageOf(part['image_url'], at));
    else throw refusal(`${at}.type`, 'is none of text, image_url, refusal');
  }
  return { text: texts.join('\n'), images };
}

function imageOf(value: unknown, at: string): string {
  const url = textOf(typeof value === 'string' ? value : fieldsOf(value, at)['url'], `${at}.url`);
  const prefix = DATA_URL.exec(url)?.[0];
  if (prefix !== undefined) return url.slice(prefix.length);
  throw refusal(`${at}.url`, 'has to be a data: URL with a base64 image; nothing is fetched');
}

/** What the assistant thought and called, noting the names of the calls for the tools' answers. */
function saidBefore(
  message: Fields,
  param: string,
  toolNames: Map<string, string>,
): Pick<NativeMessage, 'thinking' | 'tool_calls'> {
  const thinking = message['reasoning'] ?? message['reasoning_content'];
  const given = message['tool_calls'] ?? null;
  const calls = given === null ? [] : listOf(given, `${param}.tool_calls`);
  const toolCalls = calls.map((value, index): NativeToolCall => {
    const at = `${param}.tool_calls[${index}]`;
    const call = fieldsOf(value, at);
    const called = fieldsOf(call['function'], `${at}.function`);
    const id = textOf(call['id'], `${at}.id`);
    const name = textOf(called['name'], `${at}.function.name`);
    toolNames.set(id, name);
    const args = argumentsOf(called['arguments'], `${at}.function.arguments`);
    return { id, function: { name, arguments: args } };
  });
  return {
    ...(typeof thinking === 'string' ? { thinking } : {}),
    ...(toolCalls.length === 0 ? {} : { tool_calls: toolCalls }),
  };
}

function argumentsOf(value: unknown, param: string): Fields {
  const text = textOf(value ?? '', param);
  if (text.trim() === '') return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw refusal(param, 'is not JSON');
  }
  return fieldsOf(parsed, param);
}

export interface ToolWish {
  /** The tools that may be called; none where the client wants none called. */
  readonly tools: readonly NativeTool[];
  /** Whether one of them has to be called. */
  readonly forced: boolean;
}

export function toolWish(body: Fields): ToolWish {
  const tools = (listField(body, 'tools') ?? []).map(nativeTool);
  const choice = body['tool_choice'] || 'auto';
  if (choice === 'none') return { tools: [], forced: false };
  if (choice === 'auto') return { tools, forced: false };
  if (choice === 'required') return forcedOf(tools);
  const wanted = fieldsOf(choice, 'tool_choice');
  if (wanted['type'] !== 'function') {
    throw refusal('tool_choice', 'is none of none, auto, required or a function');
  }
  const name = textOf(fieldsField(wanted, 'function')?.['name'], 'tool_choice.function.name');
  return forcedOf(tools.filter(tool => tool.function.name === name));
}

/** @throws CodeGodError `bad_request` where there is nothing to choose from. */
export function forcedOf(tools: readonly NativeTool[]): ToolWish {
  if (tools.length === 0) throw refusal('tool_choice', 'names no tool of this request');
  return { tools, forced: true };
}

function nativeTool(value: unknown, index: number): NativeTool {
  const at = `tools[${index}]`;
  const tool = fieldsOf(value, at);
  if (tool['type'] !== 'function') throw refusal(`${at}.type`, 'can only be function');
  const given = fieldsOf(tool['function'], `${at}.function`);
  const { description } = given;
  return {
    type: 'function',
    function: {
      name: textOf(given['name'], `${at}.function.name`),
      ...(typeof description === 'string' ? { description } : {}),
      parameters: parametersOf(given['parameters'], `${at}.function.parameters`),
    },
  };
}

/** A function without parameters has an empty object of them. */
export function parametersOf(value: unknown, param: string): object {
  if ((value ?? null) === null) return { type: 'object', properties: {} };
  return fieldsOf(value, param);
}
