/**
 * One tool call in any of the shapes in which models write it as JSON, inside an envelope or alone.
 *
 * S1: inside `tool_calls` every object is meant as a call, and what it lacks is a fault. An object
 *     that stands alone is a call only if it looks like one and like nothing else: the same shape may
 *     be the description of a tool, or a file of the project.
 */
import { isRecord } from './answer.ts';
import { parseTolerant } from './tolerant-json.ts';

export interface RawCall {
  /** Empty where the name holds both, or the tool alone was named. */
  readonly server: string;
  readonly tool: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

type Loose = Readonly<Record<string, unknown>>;

const WRAPPER_KEYS = [
  'tool_call',
  'toolCall',
  'function_call',
  'functionCall',
  'tool_use',
] as const;
const NAME_KEYS = [
  ...['tool', 'tool_name', 'toolName', 'name', 'function_name', 'recipient_name', 'action'],
  'function',
] as const;
const SERVER_KEYS = ['server', 'server_name', 'mcp_server'] as const;
const ARGUMENT_KEYS = [
  ...['arguments', 'args', 'parameters', 'params', 'input', 'inputs', 'kwargs'],
  ...['tool_input', 'action_input', 'tool_args', 'tool_arguments'],
] as const;
/** What may stand beside a call without being one of its arguments. */
const BESIDE_KEYS = [
  ...['id', 'type', 'call_id', 'tool_call_id', 'index', 'reason', 'reasoning', 'thought'],
] as const;
const OWN_KEYS: ReadonlySet<string> = new Set([
  ...[...NAME_KEYS, ...SERVER_KEYS, ...ARGUMENT_KEYS, ...BESIDE_KEYS],
]);

/** The first verbs of the usual tools' names. */
const TOOL_NAME =
  /^(?:(?:mcp__)?[a-z][\w-]{0,40}(?:\.|__|\/|:))?(?:write|read|create|edit|save|append|delete|remove|move|rename|copy|list|search|find|get|run|execute|update|overwrite|insert|str_replace|git|fetch)(?:[_-][a-z]+|(?:[A-Z][a-z]+)|_to_file){1,4}$/;

export type KnowsTool = (name: string) => boolean;

/** Whether a name is a tool's by its look alone; the live list knows for certain. */
export const looksLikeTool: KnowsTool = name => name.length <= 128 && TOOL_NAME.test(name.trim());

/** Calls of a value that stands alone, or null where it is something else (S1). */
export function loneCalls(value: unknown, knows: KnowsTool): readonly RawCall[] | null {
  if (Array.isArray(value)) {
    if (value.length === 0) return null;
    const calls = value.map(item => loneCall(item, knows));
    return calls.every(call => call !== null) ? calls : null;
  }
  const call = loneCall(value, knows);
  return call === null ? null : [call];
}

function loneCall(value: unknown, knows: KnowsTool): RawCall | null {
  if (!isRecord(value) || !isLoneCall(value, knows)) return null;
  const call = asRawCall(value);
  return typeof call === 'string' ? null : call;
}

function isLoneCall(value: Loose, knows: KnowsTool): boolean {
  const wrapped = WRAPPER_KEYS.find(key => isRecord(value[key]));
  if (wrapped !== undefined) return Object.keys(value).length <= 4;
  const inner = value['function'];
  if (isRecord(inner)) return typeof inner['name'] === 'string' && !isDescription(inner);
  const name = nameOf(value);
  if (name === null || isDescription(value)) return false;
  const given = ARGUMENT_KEYS.find(key => key in value);
  const onlyOwn = Object.keys(value).every(key => OWN_KEYS.has(key));
  if (given !== undefined && onlyOwn && isArguments(value[given])) return true;
  return knows(name);
}

/** The description of a tool, as in a list that is offered to models: it has a schema, no arguments. */
function isDescription(value: Loose): boolean {
  if ('description' in value || 'inputSchema' in value || 'input_schema' in value) return true;
  const parameters = value['parameters'];
  return isRecord(parameters) && parameters['type'] === 'object' && 'properties' in parameters;
}

const isArguments = (value: unknown): boolean =>
  isRecord(value) || (typeof value === 'string' && typeof argumentsOf(value) !== 'string');

function nameOf(value: Loose): string | null {
  for (const key of NAME_KEYS) {
    const name = value[key];
    if (typeof name === 'string' && name.trim() !== '') return name;
  }
  return null;
}

/** One call in any of the usual shapes, or why it is none. */
export function asRawCall(value: unknown, depth = 0): RawCall | string {
  if (!isRecord(value)) return 'is not an object';
  const wrapper = WRAPPER_KEYS.find(key => isRecord(value[key]));
  if (wrapper !== undefined && depth === 0) return asRawCall(value[wrapper], 1);
  const inner = value['function'];
  if (isRecord(inner) && depth < 2) return asRawCall({ server: value['server'], ...inner }, 2);
  const tool = nameOf(value);
  if (tool === null) return 'names no `tool`';
  const server = SERVER_KEYS.map(key => value[key] ?? '').find(given => given !== '') ?? '';
  if (typeof server !== 'string') return 'has a `server` that is not a string';
  const key = ARGUMENT_KEYS.find(candidate => (value[candidate] ?? null) !== null);
  const args = key === undefined ? besideName(value) : argumentsOf(value[key]);
  if (typeof args === 'string') return args;
  return { server: server.trim(), tool: tool.trim(), arguments: args };
}

/** `{"tool": "write_file", "path": …}`: the arguments stand beside the name. */
function besideName(value: Loose): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).filter(([key]) => !OWN_KEYS.has(key)));
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

const PATH_KEYS = ['path', 'file_path', 'filepath', 'filename', 'file', 'file_name'] as const;
const TEXT_KEYS = ['content', 'contents', 'code', 'text', 'file_text'] as const;
const FILE_KEYS: ReadonlySet<string> = new Set([
  ...[...PATH_KEYS, ...TEXT_KEYS, 'language', 'description', 'encoding', 'type', 'overwrite'],
]);

export interface FileEntry {
  readonly path: string;
  readonly text: string;
}

/** `{"path", "content"}` alone or in a list: the arguments of a write without its name. */
export function loneFiles(value: unknown): readonly FileEntry[] | null {
  const items = Array.isArray(value) ? value : [value];
  const files = items.map(loneFile);
  return files.length > 0 && files.every(file => file !== null) ? files : null;
}

function loneFile(value: unknown): FileEntry | null {
  if (!isRecord(value) || !Object.keys(value).every(key => FILE_KEYS.has(key))) return null;
  const path = PATH_KEYS.map(key => value[key]).find(given => typeof given === 'string');
  const text = TEXT_KEYS.map(key => value[key]).find(given => typeof given === 'string');
  if (typeof path !== 'string' || typeof text !== 'string') return null;
  return /[./]/.test(path) ? { path: path.trim(), text } : null;
}
