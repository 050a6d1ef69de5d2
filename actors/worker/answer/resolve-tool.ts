/**
 * Finds the tool that a call means, and brings its arguments into the shape the tool's live schema
 * asks for where that takes no guessing: another spelling, a string instead of a list, an older key.
 *
 * R1: a name is matched by spelling only (case, separators), never by likeness: a wrong tool is an
 *     error that names the right ones.
 */
import type { ToolDescription } from '../../../protocol/mcp.ts';
import { isRecord } from './answer.ts';
import { type KnowsTool, looksLikeTool, type RawCall } from './call-shapes.ts';

export interface ResolvedCall {
  readonly server: string;
  readonly tool: string;
  readonly arguments: Record<string, unknown>;
}

const spelling = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** Whether a word names a tool: one of the task's, or one that looks like any. */
export function knownTools(tools: readonly ToolDescription[]): KnowsTool {
  const live = new Set(
    tools.flatMap(tool => [spelling(tool.name), spelling(`${tool.server}${tool.name}`)]),
  );
  return name => live.has(spelling(name)) || looksLikeTool(name);
}

/** The call with its true names, or a sentence that says which names there are. */
export function resolveTool(
  call: RawCall,
  tools: readonly ToolDescription[],
): ResolvedCall | string {
  const [server, tool] = splitName(call, tools);
  const found = tools.filter(
    candidate =>
      spelling(candidate.name) === spelling(tool) &&
      (server === '' || spelling(candidate.server) === spelling(server)),
  );
  const [first] = found;
  if (first === undefined) {
    const write = asWrite(call, tools);
    if (write !== null) return write;
    const names = tools.map(candidate => `${candidate.server}.${candidate.name}`).join(', ');
    const asked = server === '' ? tool : `${server}.${tool}`;
    return `there is no tool ${asked}; the tools are: ${names === '' ? 'none' : names}`;
  }
  if (found.length > 1) {
    const names = found.map(candidate => `${candidate.server}.${candidate.name}`).join(', ');
    return `the tool ${tool} is offered by several servers, name one: ${names}`;
  }
  return {
    server: first.server,
    tool: first.name,
    arguments: fitArguments(call.arguments, first.input_schema),
  };
}

/** Names of other houses' tools that write one whole file. */
const WRITE_LIKE = new Set([
  ...['writefile', 'writetofile', 'createfile', 'createnewfile', 'newfile', 'savefile'],
  ...['filewrite', 'filecreate', 'putfile', 'overwritefile', 'updatefile', 'writetextfile'],
  ...['createorupdatefile', 'write', 'save', 'create', 'writecode', 'savetofile', 'addfile'],
]);

/**
 * The call as one of the live tool that writes a file, or null. A path and a text, or nothing beside
 * the path, leave no doubt what is meant; the server of the call is somebody else's word too.
 */
function asWrite(call: RawCall, tools: readonly ToolDescription[]): ResolvedCall | null {
  const live = tools.find(candidate => spelling(candidate.name) === 'writefile');
  const name =
    splitName(call, tools)[1]
      .split(/[./:]|__/)
      .at(-1) ?? '';
  if (live === undefined || !WRITE_LIKE.has(spelling(name))) return null;
  const args = fitArguments(call.arguments, live.input_schema);
  if (typeof args['path'] !== 'string') return null;
  const { path, content } = args;
  const rest = Object.keys(args).filter(
    key =>
      !/^(?:path|content|overwrite|append|encoding|mode|language|description|explanation|line_count)$/.test(
        key,
      ),
  );
  if (rest.length > 0 || args['append'] === true || args['mode'] === 'append') return null;
  const given = content === undefined ? {} : { content };
  return { server: live.server, tool: live.name, arguments: { path, ...given } };
}

/**
 * `server.tool` of the live tool that a plan means by a name, or null: a tool alone, another spelling,
 * a server that has no such tool, a usual name for writing a file. Only where one tool is left.
 */
export function toolIdOf(given: string, tools: readonly ToolDescription[]): string | null {
  const [server, tool] = splitName({ server: '', tool: given.trim(), arguments: {} }, tools);
  const word = spelling(tool.split(/[./:]|__/).at(-1) ?? '');
  const named = tools.filter(candidate => spelling(candidate.name) === word);
  const own = named.filter(candidate => spelling(candidate.server) === spelling(server));
  const [only, second] = own.length > 0 ? own : named;
  if (only !== undefined) return second === undefined ? `${only.server}.${only.name}` : null;
  const write = tools.find(candidate => spelling(candidate.name) === 'writefile');
  return write !== undefined && WRITE_LIKE.has(word) ? `${write.server}.${write.name}` : null;
}

/** Server and tool where one string may hold both: `server.tool`, `server__tool`, `server/tool`. */
function splitName(call: RawCall, tools: readonly ToolDescription[]): [string, string] {
  const name = call.tool.replace(/^(?:mcp__|functions\.|tools\.|default_api\.)/, '');
  for (const { server } of tools) {
    for (const separator of ['.', '__', '/', ':']) {
      const prefix = `${server}${separator}`.toLowerCase();
      if (name.toLowerCase().startsWith(prefix)) return [server, name.slice(prefix.length)];
    }
  }
  return [call.server, name];
}

/** Older or usual spellings of arguments, used where the schema knows only the right-hand one. */
const SYNONYMS: readonly (readonly [string, string])[] = [
  ['file_path', 'path'],
  ['filepath', 'path'],
  ['filename', 'path'],
  ['file', 'path'],
  ['text', 'content'],
  ['contents', 'content'],
  ['code', 'content'],
  ['file_content', 'content'],
  ['file_text', 'content'],
  ['body', 'content'],
  ['data', 'content'],
  ['file_name', 'path'],
  ['target_file', 'path'],
  ['filePath', 'path'],
  ['TargetFile', 'path'],
  ['paths', 'files'],
  ['file_paths', 'files'],
  ['path', 'repo_path'],
];

function fitArguments(
  given: Readonly<Record<string, unknown>>,
  schema: Record<string, unknown>,
): Record<string, unknown> {
  const properties = isRecord(schema['properties']) ? schema['properties'] : null;
  const fitted: Record<string, unknown> = { ...given };
  if (properties === null) return fitted;
  for (const [used, right] of SYNONYMS) {
    if (used in fitted && !(used in properties) && right in properties && !(right in fitted)) {
      fitted[right] = fitted[used];
      delete fitted[used];
    }
  }
  const required = Array.isArray(schema['required']) ? schema['required'] : [];
  if (required.includes('repo_path') && !('repo_path' in fitted)) fitted['repo_path'] = '.';
  for (const [key, property] of Object.entries(properties)) {
    if (!(key in fitted) || !isRecord(property)) continue;
    fitted[key] = fitType(
      isWord(key, property) ? trimmed(fitted[key]) : fitted[key],
      property['type'],
    );
  }
  return fitted;
}

/** Arguments whose text has no blanks around it, whatever a dialect's layout put there. */
function isWord(key: string, property: Record<string, unknown>): boolean {
  if (Array.isArray(property['enum'])) return true;
  return /(?:^|_)(?:path|paths|file|files|dir|directory|folder|source|destination|root|cwd|url|uri|branch|branch_name|revision|target|pattern|timezone|name|names|id)$/i.test(
    key.replace(/([a-z])([A-Z])/g, '$1_$2'),
  );
}

function trimmed(value: unknown): unknown {
  if (typeof value === 'string') return value.trim();
  if (!Array.isArray(value)) return value;
  return value.map(item => (typeof item === 'string' ? item.trim() : item));
}

function fitType(value: unknown, type: unknown): unknown {
  if (type === 'array' && typeof value === 'string') {
    const list = jsonOf(value);
    return Array.isArray(list) ? list : [value];
  }
  if (type === 'object' && typeof value === 'string') {
    const object = jsonOf(value);
    return isRecord(object) ? object : value;
  }
  if ((type === 'integer' || type === 'number') && typeof value === 'string') {
    return /^-?\d{1,15}(?:\.\d{1,15})?$/.test(value.trim()) ? Number(value) : value;
  }
  if (type === 'boolean' && typeof value === 'string') {
    if (/^(?:true|false)$/i.test(value.trim())) return value.trim().toLowerCase() === 'true';
  }
  return value;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // No JSON: the caller keeps the text and the tool's own schema judges it.
    return undefined;
  }
}
