/**
 * Tool calls that a model wrote as text, in the dialect it was trained on:
 * `<tool_call>{…}</tool_call>`, `<function=name><parameter=key>value</parameter></function>`,
 * `[name(key="value")]` and `Action:` / `Action Input:`.
 *
 * X1: a call that is not complete is a fault, never half a call.
 */
import { asRawCall, type RawCall } from './envelope.ts';
import { readPythonCalls } from './python-calls.ts';
import { parseTolerant } from './tolerant-json.ts';

export interface TextCalls {
  readonly calls: readonly RawCall[];
  readonly faults: readonly string[];
}

const CALLS_MAX = 128;

/** Where the first call in XML dress begins, or -1. */
export const xmlCallAt = (text: string): number =>
  text.search(/^[ \t]*<(?:tool_call>|function=[\w.-]+>)/im);

export function readTextCalls(text: string): TextCalls {
  for (const read of [readToolCallTags, readFunctionTags, readActions, readPythonic]) {
    const found = read(text);
    if (found.calls.length > 0 || found.faults.length > 0) return found;
  }
  return { calls: [], faults: [] };
}

function readToolCallTags(text: string): TextCalls {
  const calls: RawCall[] = [];
  const faults: string[] = [];
  for (const body of between(text, '<tool_call>', '</tool_call>', faults)) {
    if (body.includes('<function=')) {
      const inner = readFunctionTags(body);
      calls.push(...inner.calls);
      faults.push(...inner.faults);
      continue;
    }
    const parsed = parseTolerant(body, { repair: true });
    const call = parsed.ok ? asRawCall(parsed.value) : `is not JSON: ${parsed.error}`;
    if (typeof call === 'string') faults.push(`a <tool_call> ${call}`);
    else calls.push(call);
  }
  return { calls, faults };
}

function readFunctionTags(text: string): TextCalls {
  const calls: RawCall[] = [];
  const faults: string[] = [];
  const open = /<function=([\w.:/-]{1,128})>/g;
  for (let match = open.exec(text); match !== null; match = open.exec(text)) {
    if (calls.length >= CALLS_MAX) break;
    const from = match.index + match[0].length;
    const end = text.indexOf('</function>', from);
    const name = match[1] ?? '';
    if (end === -1) {
      faults.push(`<function=${name}> is not closed by </function>`);
      break;
    }
    const args = readParameters(text.slice(from, end), name, faults);
    calls.push({ server: '', tool: name, arguments: args });
    open.lastIndex = end;
  }
  return { calls, faults };
}

function readParameters(body: string, name: string, faults: string[]): Record<string, unknown> {
  const args: Record<string, unknown> = {};
  const open = /<parameter=([\w.-]{1,64})>/g;
  for (let match = open.exec(body); match !== null; match = open.exec(body)) {
    const from = match.index + match[0].length;
    const end = body.indexOf('</parameter>', from);
    if (end === -1) {
      faults.push(`<parameter=${match[1]}> of ${name} is not closed by </parameter>`);
      break;
    }
    // The line break behind the opening tag and the indentation of the closing one are layout.
    const value = body.slice(from, end).replace(/^\r?\n/, '');
    const key = match[1] ?? '';
    if (key !== '__proto__') args[key] = parameterValue(value);
    open.lastIndex = end;
  }
  return args;
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

function readActions(text: string): TextCalls {
  const match = /^Action:[ \t]*([\w.:/-]{1,128})[ \t]*\r?\nAction Input:[ \t]*/im.exec(text);
  if (match?.[1] === undefined) return { calls: [], faults: [] };
  const rest = text.slice(match.index + match[0].length);
  const end = rest.search(/^(?:Observation|Thought|Action):/m);
  const parsed = parseTolerant(end === -1 ? rest : rest.slice(0, end), { repair: true });
  const call = parsed.ok ? asRawCall({ tool: match[1], arguments: parsed.value }) : parsed.error;
  return typeof call === 'string'
    ? { calls: [], faults: [`the input of action ${match[1]} is not a JSON object: ${call}`] }
    : { calls: [call], faults: [] };
}

function readPythonic(text: string): TextCalls {
  const start = text.search(/\[\s*[A-Za-z_][\w.]*\(\s*(?:[A-Za-z_]\w*\s*=|\))/);
  if (start === -1) return { calls: [], faults: [] };
  const read = readPythonCalls(text.slice(start));
  return typeof read === 'string' ? { calls: [], faults: [read] } : { calls: read, faults: [] };
}

function between(text: string, open: string, close: string, faults: string[]): string[] {
  const parts: string[] = [];
  let from = text.indexOf(open);
  while (from !== -1 && parts.length < CALLS_MAX) {
    const end = text.indexOf(close, from);
    if (end === -1) {
      faults.push(`${open} is not closed by ${close}`);
      break;
    }
    parts.push(text.slice(from + open.length, end));
    from = text.indexOf(open, end);
  }
  return parts;
}
