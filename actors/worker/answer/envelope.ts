/**
 * The JSON envelope of an answer, in every shape that is understood: the contract's own, the older
 * `{success, code, tool_calls}` with its legacy keys, and bare lists of calls.
 */
import { isRecord, REFUSAL_REASONS, type RefusalReason } from './answer.ts';
import {
  asRawCall,
  type FileEntry,
  loneCalls,
  looksLikeTool,
  type RawCall,
} from './call-shapes.ts';
import { parseTolerant } from './tolerant-json.ts';

export interface Envelope {
  readonly success: boolean;
  readonly summary: string;
  readonly reason: RefusalReason;
  readonly needs: readonly string[];
  readonly calls: readonly RawCall[];
  /** Code of a single file, from `code` or one of its older names. */
  readonly code: string | null;
  readonly files: readonly FileEntry[];
  /** What in it could not be understood; an envelope with faults is never acted on. */
  readonly faults: readonly string[];
}

const CODE_KEYS = ['code', 'fixed_code', 'component_code', 'content'] as const;
const CALL_KEYS = ['tool_calls', 'toolCalls', 'mcp_calls', 'mcp_tool_calls'] as const;
const WRAPPERS = ['response', 'result', 'answer', 'output', 'envelope'] as const;

/** The envelope in a value, or null where the value is something else. */
export function asEnvelope(value: unknown, depth = 0): Envelope | null {
  if (Array.isArray(value)) {
    if (loneCalls(value, looksLikeTool) === null) return null;
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
  const { files, references } = filesOf(value['files'], faults);
  const listed = rawCalls(CALL_KEYS.map(key => value[key]).find(Boolean), faults);
  const calls = [...references, ...(listed.length > 0 ? listed : callInside(value))];
  return {
    success: successOf(value['success']),
    summary: textOf(value['summary'] ?? value['message'] ?? value['explanation']),
    reason: reasonOf(value['reason']),
    needs: stringsOf(value['needs']),
    calls,
    code: codeOf(value),
    files,
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
  const text = code.trim();
  const mark = /^`{3,32}/.exec(text.slice(0, 40))?.[0];
  const from = text.indexOf('\n') + 1;
  if (mark === undefined || from === 0 || text.slice(mark.length, from).includes('`')) return code;
  const inner = text.slice(from, -mark.length);
  if (!text.endsWith(mark) || text.length < from + mark.length || inner.includes(mark)) return code;
  return inner.endsWith('\n') ? inner : `${inner}\n`;
}

/** `{"success": true, "tool": …}`: the envelope is the call. */
function callInside(value: Record<string, unknown>): readonly RawCall[] {
  const { success: _, summary: __, ...rest } = value;
  return loneCalls(rest, looksLikeTool) ?? [];
}

interface Files {
  readonly files: readonly FileEntry[];
  /** Files whose text is a block of the answer. */
  readonly references: readonly RawCall[];
}

function filesOf(value: unknown, faults: string[]): Files {
  const entries: [unknown, unknown][] = Array.isArray(value)
    ? value
        .filter(isRecord)
        .map(file => [
          file['path'] ?? file['name'] ?? file['filename'] ?? file['file_path'],
          file['content'] ?? file['contents'] ?? file['code'] ?? file['text'],
        ])
    : isRecord(value)
      ? Object.entries(value).map(([path, content]) => [
          path,
          isRecord(content) && !('$file' in content)
            ? (content['content'] ?? content['code'])
            : content,
        ])
      : [];
  const files: FileEntry[] = [];
  const references: RawCall[] = [];
  for (const [path, content] of entries) {
    if (typeof path !== 'string') faults.push('an entry of `files` has no `path`');
    else if (typeof content === 'string') files.push({ path, text: content });
    else if (isRecord(content)) {
      references.push({ server: '', tool: 'write_file', arguments: { path, content } });
    }
  }
  return { files, references };
}

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
