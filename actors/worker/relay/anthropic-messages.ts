/** The messages and tools of a chat as Anthropic's clients write them, in native form. */
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
import { forcedOf, parametersOf, type ToolWish } from './openai-messages.ts';

export function nativeMessages(body: Fields): NativeMessage[] {
  const given = listField(body, 'messages') ?? [];
  if (given.length === 0) throw refusal('messages', 'has to hold at least one message');
  const system = textsOf(body['system'] ?? '', 'system');
  const messages: NativeMessage[] = system === '' ? [] : [{ role: 'system', content: system }];
  const toolNames = new Map<string, string>();
  for (const [index, value] of given.entries()) {
    const at = `messages[${index}]`;
    const message = fieldsOf(value, at);
    const blocks = blocksOf(message['content'], `${at}.content`);
    if (message['role'] === 'assistant') messages.push(saidBefore(blocks, at, toolNames));
    else if (message['role'] === 'user') messages.push(...asked(blocks, at, toolNames));
    else if (message['role'] === 'system') {
      messages.push({ role: 'system', content: textsOf(message['content'], `${at}.content`) });
    } else throw refusal(`${at}.role`, 'is neither user nor assistant');
  }
  return messages;
}

/** Content is a text or a list of blocks; a text is one block. */
function blocksOf(content: unknown, param: string): readonly Fields[] {
  if (typeof content === 'string') return [{ type: 'text', text: content }];
  return listOf(content, param).map((block, index) => fieldsOf(block, `${param}[${index}]`));
}

function textsOf(content: unknown, param: string): string {
  return blocksOf(content, param)
    .map((block, index) => {
      if (block['type'] !== 'text') throw refusal(`${param}[${index}].type`, 'can only be text');
      return textOf(block['text'], `${param}[${index}].text`);
    })
    .join('\n');
}

function saidBefore(
  blocks: readonly Fields[],
  at: string,
  toolNames: Map<string, string>,
): NativeMessage {
  const texts: string[] = [];
  const thoughts: string[] = [];
  const calls: NativeToolCall[] = [];
  for (const [index, block] of blocks.entries()) {
    const param = `${at}.content[${index}]`;
    switch (block['type']) {
      case 'text':
        texts.push(textOf(block['text'], `${param}.text`));
        break;
      case 'thinking':
        thoughts.push(textOf(block['thinking'], `${param}.thinking`));
        break;
      case 'redacted_thinking':
        break; // Only its author can read it.
      case 'tool_use': {
        const id = textOf(block['id'], `${param}.id`);
        const name = textOf(block['name'], `${param}.name`);
        toolNames.set(id, name);
        const input = fieldsOf(block['input'] ?? {}, `${param}.input`);
        calls.push({ id, function: { name, arguments: input } });
        break;
      }
      default:
        throw refusal(`${param}.type`, 'is none of text, thinking, tool_use');
    }
  }
  return {
    role: 'assistant',
    content: texts.join('\n'),
    ...(thoughts.length === 0 ? {} : { thinking: thoughts.join('\n') }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

/** Results of tools are messages of their own, before what the user says next. */
function asked(
  blocks: readonly Fields[],
  at: string,
  toolNames: ReadonlyMap<string, string>,
): NativeMessage[] {
  const results: NativeMessage[] = [];
  const said: Fields[] = [];
  for (const [index, block] of blocks.entries()) {
    if (block['type'] !== 'tool_result') {
      said.push(block);
      continue;
    }
    const param = `${at}.content[${index}]`;
    const id = textOf(block['tool_use_id'], `${param}.tool_use_id`);
    const name = toolNames.get(id);
    const { content, ...images } = shown(
      blocksOf(block['content'] ?? '', `${param}.content`),
      param,
    );
    results.push({
      role: 'tool',
      content: block['is_error'] === true ? `Error: ${content}` : content,
      ...images,
      tool_call_id: id,
      ...(name === undefined ? {} : { tool_name: name }),
    });
  }
  return said.length === 0 ? results : [...results, { role: 'user', ...shown(said, at) }];
}

function shown(blocks: readonly Fields[], at: string): Pick<NativeMessage, 'content' | 'images'> {
  const texts: string[] = [];
  const images: string[] = [];
  for (const [index, block] of blocks.entries()) {
    const param = `${at}.content[${index}]`;
    if (block['type'] === 'text') texts.push(textOf(block['text'], `${param}.text`));
    else if (block['type'] === 'image') images.push(imageOf(block, param));
    else if (block['type'] === 'document') texts.push(documentOf(block, param));
    else throw refusal(`${param}.type`, 'is none of text, image, document, tool_result');
  }
  return { content: texts.join('\n'), ...(images.length === 0 ? {} : { images }) };
}

function imageOf(block: Fields, param: string): string {
  const source = fieldsOf(block['source'], `${param}.source`);
  if (source['type'] === 'base64') return textOf(source['data'], `${param}.source.data`);
  throw refusal(`${param}.source.type`, 'has to be base64; nothing is fetched');
}

function documentOf(block: Fields, param: string): string {
  const source = fieldsOf(block['source'], `${param}.source`);
  if (source['type'] === 'text') return textOf(source['data'], `${param}.source.data`);
  throw refusal(`${param}.source.type`, 'has to be text');
}

export function toolWish(body: Fields): ToolWish {
  const tools = (listField(body, 'tools') ?? []).map(nativeTool);
  const choice = fieldsField(body, 'tool_choice');
  switch (choice?.['type']) {
    case undefined:
    case 'auto':
      return { tools, forced: false };
    case 'none':
      return { tools: [], forced: false };
    case 'any':
      return forcedOf(tools);
    case 'tool': {
      const name = textOf(choice['name'], 'tool_choice.name');
      return forcedOf(tools.filter(tool => tool.function.name === name));
    }
    default:
      throw refusal('tool_choice.type', 'is none of auto, any, tool, none');
  }
}

function nativeTool(value: unknown, index: number): NativeTool {
  const at = `tools[${index}]`;
  const tool = fieldsOf(value, at);
  if ((tool['type'] ?? 'custom') !== 'custom') {
    throw refusal(`${at}.type`, 'can only be custom: there are no tools of the server');
  }
  const { description } = tool;
  return {
    type: 'function',
    function: {
      name: textOf(tool['name'], `${at}.name`),
      ...(typeof description === 'string' ? { description } : {}),
      parameters: parametersOf(tool['input_schema'], `${at}.input_schema`),
    },
  };
}
