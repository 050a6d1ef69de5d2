/**
 * Tool calls that a model wrote as text, in the dialect it was trained on:
 * `<tool_call>{…}</tool_call>` (also with YAML), `<function=name><parameter=key>value</parameter></function>`,
 * `<invoke name="…">`, `<write_file><path>…</path></write_file>`, `[name(key="value")]` and
 * `Action:` / `Action Input:`. Calls as bare JSON are read with the envelopes.
 *
 * X1: a call that is not complete is a fault, never half a call.
 * X2: what only looks like one of these and names no tool is code.
 */
import { asRawCall, type KnowsTool, type RawCall } from './call-shapes.ts';
import { asEnvelope } from './envelope.ts';
import { pythonCallAt, readPythonCalls } from './python-calls.ts';
import { jsonCandidates, parseTolerant } from './tolerant-json.ts';
import { readYamlCall } from './yaml-call.ts';

export interface TextCalls {
  readonly calls: readonly RawCall[];
  readonly faults: readonly string[];
}

const CALLS_MAX = 128;
const NONE: TextCalls = { calls: [], faults: [] };

const XML_CALL =
  /^[ \t]*<(?:tool_calls?>|function=[\w.-]+>|function_calls>|invoke name=|(?:write|create|save|append|read|edit)_?(?:to_)?file>)/im;

/** Where the first call in XML dress begins, or -1. */
export const xmlCallAt = (text: string): number => text.search(XML_CALL);

export function readTextCalls(text: string, knows: KnowsTool): TextCalls {
  for (const read of [readToolCallTags, readFunctionTags, readElements, readActions]) {
    const found = read(text, knows);
    if (found.calls.length > 0 || found.faults.length > 0) return found;
  }
  return readPythonic(text, knows);
}

function readToolCallTags(text: string, knows: KnowsTool): TextCalls {
  const calls: RawCall[] = [];
  const faults: string[] = [];
  for (const body of between(text, faults)) {
    if (/<(?:function=|invoke )/.test(body)) {
      const inner = readFunctionTags(body);
      calls.push(...inner.calls);
      faults.push(...inner.faults);
      continue;
    }
    const elements = readElements(body, knows);
    if (elements.calls.length > 0) {
      calls.push(...elements.calls);
      continue;
    }
    const yaml = readYamlCall(body);
    if (yaml !== null) {
      calls.push(yaml);
      continue;
    }
    const parsed = parseTolerant(jsonIn(body), { repair: true });
    const envelope = parsed.ok ? asEnvelope(parsed.value) : null;
    const call = parsed.ok ? asRawCall(parsed.value) : `is not JSON: ${parsed.error}`;
    if (envelope !== null && envelope.calls.length > 0) {
      calls.push(...envelope.calls);
      faults.push(...envelope.faults);
    } else if (typeof call === 'string') faults.push(`a <tool_call> ${call}`);
    else calls.push(call);
  }
  return { calls, faults };
}

/** The JSON of a tag's body, also in a fence or behind a word of the dialect. */
function jsonIn(body: string): string {
  const [first, second] = /^\s*[{[]/.test(body) ? [] : jsonCandidates(body);
  return first !== undefined && second === undefined ? first.text : body;
}

const FUNCTION_OPEN = /<(?:function=|function name=|invoke name=)["']?([\w.:/-]{1,128})["']?>/g;

function readFunctionTags(text: string): TextCalls {
  const calls: RawCall[] = [];
  const faults: string[] = [];
  const open = new RegExp(FUNCTION_OPEN);
  for (let match = open.exec(text); match !== null; match = open.exec(text)) {
    if (calls.length >= CALLS_MAX) break;
    const from = match.index + match[0].length;
    const close = match[0].startsWith('<invoke') ? '</invoke>' : '</function>';
    const end = text.indexOf(close, from);
    const name = match[1] ?? '';
    if (end === -1) {
      faults.push(`${match[0]} is not closed by ${close}`);
      break;
    }
    const body = text.slice(from, end);
    const args = /^\s*\{/.test(body) ? jsonArguments(body, name, faults) : null;
    calls.push({ server: '', tool: name, arguments: args ?? readParameters(body, name, faults) });
    open.lastIndex = end;
  }
  return { calls, faults };
}

/** `<function=name>{"key": "value"}</function>` */
function jsonArguments(body: string, name: string, faults: string[]): RawCall['arguments'] | null {
  const parsed = parseTolerant(body, { repair: true });
  const call = parsed.ok ? asRawCall({ tool: name, arguments: parsed.value }) : parsed.error;
  if (typeof call !== 'string') return call.arguments;
  faults.push(`the arguments of ${name} are not a JSON object: ${call}`);
  return {};
}

function readParameters(body: string, name: string, faults: string[]): Record<string, unknown> {
  const args: Record<string, unknown> = {};
  const open = /<parameter(?:=| name=)["']?([\w.-]{1,64})["']?>/g;
  for (let match = open.exec(body); match !== null; match = open.exec(body)) {
    const from = match.index + match[0].length;
    const end = body.indexOf('</parameter>', from);
    if (end === -1) {
      faults.push(`<parameter=${match[1]}> of ${name} is not closed by </parameter>`);
      break;
    }
    keepArgument(args, match[1] ?? '', body.slice(from, end));
    open.lastIndex = end;
  }
  return args;
}

function keepArgument(args: Record<string, unknown>, key: string, text: string): void {
  // The line break behind the opening tag and the indentation of the closing one are layout.
  if (key !== '__proto__') args[key] = parameterValue(text.replace(/^\r?\n/, ''));
}

/** Lists and objects are JSON; everything else is text, and text of several lines stays as it is. */
function parameterValue(value: string): unknown {
  const text = value.trim();
  if (/^[[{]/.test(text)) {
    const parsed = parseTolerant(text, { repair: false });
    if (parsed.ok) return parsed.value;
  }
  return value.includes('\n') ? value : text;
}

/** `<write_file><path>…</path><content>…</content></write_file>`: tags named after the tool (X2). */
function readElements(text: string, knows: KnowsTool): TextCalls {
  const calls: RawCall[] = [];
  const open = /^[ \t]*<([a-z][\w.-]{2,63})>/gim;
  for (let match = open.exec(text); match !== null; match = open.exec(text)) {
    const name = match[1] ?? '';
    if (!knows(name)) continue;
    const from = match.index + match[0].length;
    const end = text.indexOf(`</${name}>`, from);
    if (end === -1) return { calls: [], faults: [`<${name}> is not closed by </${name}>`] };
    calls.push({ server: '', tool: name, arguments: readChildren(text.slice(from, end)) });
    if (calls.length >= CALLS_MAX) break;
    open.lastIndex = end;
  }
  return { calls, faults: [] };
}

function readChildren(body: string): Record<string, unknown> {
  const args: Record<string, unknown> = {};
  const open = /<([a-z]\w{0,63})>/gi;
  for (let match = open.exec(body); match !== null; match = open.exec(body)) {
    const from = match.index + match[0].length;
    const close = `</${match[1]}>`;
    // What a file holds may hold the same tags: the last one closes its text.
    const isText = /^(?:content|text|code)$/i.test(match[1] ?? '');
    const end = isText ? body.lastIndexOf(close) : body.indexOf(close, from);
    if (end < from) break;
    keepArgument(args, match[1] ?? '', body.slice(from, end));
    open.lastIndex = end + close.length;
  }
  return args;
}

function readActions(text: string): TextCalls {
  const match = /^Action:[ \t]*([\w.:/-]{1,128})[ \t]*\r?\nAction Input:[ \t]*/im.exec(text);
  if (match?.[1] === undefined) return NONE;
  const rest = text.slice(match.index + match[0].length);
  const end = rest.search(/^(?:Observation|Thought|Action):/m);
  const input = end === -1 ? rest : rest.slice(0, end);
  const parsed = parseTolerant(jsonIn(input), { repair: true });
  const call = parsed.ok ? asRawCall({ tool: match[1], arguments: parsed.value }) : parsed.error;
  return typeof call === 'string'
    ? { calls: [], faults: [`the input of action ${match[1]} is not a JSON object: ${call}`] }
    : { calls: [call], faults: [] };
}

function readPythonic(text: string, knows: KnowsTool): TextCalls {
  const start = pythonCallAt(text, knows);
  if (start === -1) return NONE;
  const read = readPythonCalls(text.slice(start), knows);
  return typeof read === 'string' ? { calls: [], faults: [read] } : { calls: read, faults: [] };
}

/** The texts between `<tool_call>` and its closing tag, in any case. */
function between(text: string, faults: string[]): string[] {
  const parts: string[] = [];
  const open = /<(tool_calls?)>/gi;
  for (let match = open.exec(text); match !== null; match = open.exec(text)) {
    if (parts.length >= CALLS_MAX) break;
    const close = new RegExp(`</${match[1]}>`, 'gi');
    close.lastIndex = match.index + match[0].length;
    const end = close.exec(text);
    if (end === null) {
      faults.push(`${match[0]} is not closed by </${match[1]}>`);
      break;
    }
    parts.push(text.slice(match.index + match[0].length, end.index));
    open.lastIndex = end.index + end[0].length;
  }
  return parts;
}
