/**
 * A call that the client insists on (`tool_choice`): the engine offers calls, it cannot be told to
 * make one. So the answer is constrained to the form of a call, and read as one.
 *
 * C1: what is not a call after all (cut off by its length, or a form that was not kept) is given as
 *     the text it is.
 */
import { isFields } from './fields.ts';
import type { NativeLine, NativeMessage, NativeTool } from './native.ts';
import type { ToolWish } from './openai-messages.ts';

/**
 * What a native chat is asked with: the tools are offered, or one of them is insisted on.
 * @param format the form the client wants for the text; not asked where a call is insisted on
 */
export function chatFields(
  messages: readonly NativeMessage[],
  { tools, forced }: ToolWish,
  format: () => unknown,
): object {
  if (forced) return { messages: withInstruction(messages, tools), format: callFormat(tools) };
  const form = format();
  return {
    messages,
    ...(tools.length === 0 ? {} : { tools }),
    ...(form === undefined ? {} : { format: form }),
  };
}

/** JSON Schema of a call of one of the tools. */
function callFormat(tools: readonly NativeTool[]): object {
  const forms = tools.map(({ function: { name, parameters } }) => ({
    type: 'object',
    properties: { name: { type: 'string', enum: [name] }, arguments: parameters },
    required: ['name', 'arguments'],
  }));
  return forms.length === 1 && forms[0] !== undefined ? forms[0] : { anyOf: forms };
}

/** The engine does not show a format to the model: it is told here, with the system's words. */
function withInstruction(
  messages: readonly NativeMessage[],
  tools: readonly NativeTool[],
): NativeMessage[] {
  const signatures = tools.map(tool => JSON.stringify(tool.function)).join('\n');
  const told = `Call one of these functions:\n${signatures}\nAnswer with nothing but one JSON object {"name": …, "arguments": {…}}.`;
  const [first, ...rest] = messages;
  if (first?.role !== 'system') return [{ role: 'system', content: told }, ...messages];
  return [{ ...first, content: `${first.content}\n\n${told}` }, ...rest];
}

/** Holds the text of an answer back until it is whole, then gives it as a call. */
export class ForcedCall {
  #text = '';

  take(line: NativeLine): NativeLine {
    const { content = '', ...message } = line.message ?? {};
    this.#text += content;
    if (line.done !== true) return { ...line, message };
    const call = readCall(this.#text);
    if (call === null) return { ...line, message: { ...message, content: this.#text } }; // C1
    return { ...line, message: { ...message, tool_calls: [{ function: call }] } };
  }
}

function readCall(text: string): { name: string; arguments: object } | null {
  try {
    const value: unknown = JSON.parse(text);
    if (!isFields(value)) return null;
    const { name, arguments: given } = value;
    return typeof name === 'string' && isFields(given) ? { name, arguments: given } : null;
  } catch {
    return null; // C1: no JSON is an answer here, not a failure.
  }
}
