/**
 * The JSON envelope of an answer, in every shape that is understood: the contract's own, the older
 * `{success, code, tool_calls}` with its legacy keys, and bare lists of calls.
 */
import { isRecord, REFUSAL_REASONS, type RefusalReason } from './answer.ts';
import { parseTolerant } from './tolerant-json.ts';

export interface RawCall {
  /** Empty where the name holds both, or the tool alone was named. */
  readonly server: string;
  readonly tool: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export interface Envelope {
  readonly success: boolean;
  readonly summary: string;
  readonly reason: RefusalReason;
  readonly needs: readonly string[];
  readonly calls: readonly RawCall[];
  /** Code of a single file, from `code` or one of its older names. */
  readonly code: string | null;
  readonly files: readonly { readonly path: string; readonly text: string }[];
  /** What in it could not be understood; an envelope with faults is never acted on. */
  readonly faults: readonly string[];
}

const CODE_KEYS = ['code', 'fixed_code', 'component_code', 'content'] as const;
const CALL_KEYS = ['tool_calls', 'toolCalls', 'mcp_calls', 'mcp_tool_calls'] as const;
const WRAPPERS = ['response', 'result', 'answer', 'output', 'envelope'] as const;

/** The envelope in a value, or null where the value is something else. */
export function asEnvelope(value: unknown, depth = 0): Envelope | null {
  if (Array.isArray(value)) {
    if (value.length === 0 || !value.every(isCallShaped)) return null;
    return asEnvelope({ success: true, tool_calls: value }, depth);
  }
  if (!isRecord(value)) return null;
  const known = ['success', ...CODE_KEYS, ...CALL_KEYS, 'files'];
  if (!known.some(key => key in value)) {
    const keys = Object.keys(value);
    const inner = WRAPPERS.find(key => key in value);
    if (inner === undefined || keys.length > 3 || depth > 1) return null;
    return asEnvelope(value[inner], depth + 1);
  }
  if (!('success' in value) && !CALL_KEYS.some(key => key in value) && !hasCode(value)) return null;
  const faults: string[] = [];
  const calls = rawCalls(CALL_KEYS.map(key => value[key]).find(Boolean), faults);
  return {
    success: successOf(value['success']),
    summary: textOf(value['summary'] ?? value['message'] ?? value['explanation']),
    reason: reasonOf(value['reason']),
    needs: stringsOf(value['needs']),
    calls,
    code: codeOf(value),
    files: filesOf(value['files'], faults),
    faults,
  };
}

/** `{path, content}` is a file or the arguments of a call, no envelope. */
const hasCode = (value: Record<string, unknown>): boolean =>
  !('path' in value || 'name' in value || 'tool' in value) && hasCodeKey(value);

const hasCodeKey = (value: Record<string, unknown>): boolean =>
  CODE_KEYS.some(key => typeof value[key] === 'string') ||
  (Array.isArray(value['files']) && value['files'].some(isRecord)) ||
  isRecord(value['files']);

function successOf(value: unknown): boolean {
  if (typeof value === 'string') return !/^(?:false|no|0)$/i.test(value.trim());
  return value !== false && value !== 0;
}

function reasonOf(value: unknown): RefusalReason {
  const word = textOf(value)
    .trim()
    .toLowerCase()
    .replace(/[\s-]+/g, '_');
  return REFUSAL_REASONS.find(reason => reason === word) ?? 'other';
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value.slice(0, 4_000) : '');

function stringsOf(value: unknown): string[] {
  if (typeof value === 'string') return value.trim() === '' ? [] : [value];
  if (!Array.isArray(value)) return [];
  return value.filter(item => typeof item === 'string');
}

function codeOf(value: Record<string, unknown>): string | null {
  for (const key of CODE_KEYS) {
    const code = value[key];
    if (typeof code === 'string' && code.trim() !== '') return unfenced(code);
  }
  return null;
}

/** Code that is wholly inside one fence, without that fence. */
export function unfenced(code: string): string {
  const match = /^\s*(`{3,})[^\n`]*\n([\s\S]*?)\n?\1\s*$/.exec(code);
  if (match?.[2] === undefined || match[1] === undefined) return code;
  return match[2].includes(match[1]) ? code : `${match[2]}\n`;
}

function filesOf(value: unknown, faults: string[]): { path: string; text: string }[] {
  const entries: [unknown, unknown][] = Array.isArray(value)
    ? value
        .filter(isRecord)
        .map(file => [
          file['path'] ?? file['name'] ?? file['filename'] ?? file['file_path'],
          file['content'] ?? file['code'] ?? file['text'],
        ])
    : isRecord(value)
      ? Object.entries(value).map(([path, content]) => [
          path,
          isRecord(content) ? (content['content'] ?? content['code']) : content,
        ])
      : [];
  const files: { path: string; text: string }[] = [];
  for (const [path, content] of entries) {
    if (typeof path !== 'string') faults.push('an entry of `files` has no `path`');
    else if (typeof content === 'string') files.push({ path, text: content });
  }
  return files;
}

const isCallShaped = (value: unknown): boolean =>
  isRecord(value) &&
  ('tool' in value || 'name' in value || 'function' in value || 'tool_name' in value);

function rawCalls(value: unknown, faults: string[]): RawCall[] {
  if (value === undefined || value === null) return [];
  if (typeof value === 'string') {
    const parsed = parseTolerant(value, { repair: true });
    if (parsed.ok && typeof parsed.value !== 'string') return rawCalls(parsed.value, faults);
    faults.push('`tool_calls` is a string; it must be a list');
    return [];
  }
  const list = Array.isArray(value) ? value : [value];
  const calls: RawCall[] = [];
  list.forEach((item, index) => {
    const call = asRawCall(item);
    if (typeof call === 'string') faults.push(`tool_calls[${index}] ${call}`);
    else calls.push(call);
  });
  return calls;
}

/** One call in any of the usual shapes, or why it is none. */
export function asRawCall(value: unknown): RawCall | string {
  if (!isRecord(value)) return 'is not an object';
  const inner = value['function'];
  if (isRecord(inner)) return asRawCall({ server: value['server'], ...inner });
  const tool = value['tool'] ?? value['tool_name'] ?? value['name'] ?? inner;
  if (typeof tool !== 'string' || tool.trim() === '') return 'names no `tool`';
  const server = value['server'] ?? value['server_name'] ?? value['mcp_server'] ?? '';
  if (typeof server !== 'string') return 'has a `server` that is not a string';
  const given =
    value['arguments'] ??
    value['args'] ??
    value['parameters'] ??
    value['input'] ??
    value['params'] ??
    {};
  const args = argumentsOf(given);
  if (typeof args === 'string') return args;
  return { server: server.trim(), tool: tool.trim(), arguments: args };
}

/** Arguments given as an object, or as the JSON text of one. */
function argumentsOf(value: unknown): Record<string, unknown> | string {
  if (isRecord(value)) return value;
  if (typeof value !== 'string') return 'has `arguments` that are no object';
  if (value.trim() === '') return {};
  const parsed = parseTolerant(value, { repair: true });
  if (parsed.ok && isRecord(parsed.value)) return parsed.value;
  return 'has `arguments` that are a string and not the JSON of an object';
}
