/**
 * From what a model calls a tool to the tool that exists: `filesystem.write_file`,
 * `filesystem__writeFile`, `git` + `add`, `fetch_html`.
 *
 * N1: only spelling and known old names are forgiven; a guess between two tools is never made.
 */

export interface ToolId {
  readonly server: string;
  readonly tool: string;
  /** Arguments that the old name implied. */
  readonly implied: Readonly<Record<string, unknown>>;
}

export interface AskedTool {
  /** May be empty, where the tool's name holds both. */
  readonly server: string;
  readonly tool: string;
}

/** Server and tool apart; the server null where nothing names one that exists. */
export function splitToolId(
  asked: AskedTool,
  servers: readonly string[],
): { readonly server: string | null; readonly tool: string } {
  const named = asked.server === '' ? null : findName(asked.server, servers);
  const parts = /^([A-Za-z0-9_-]+?)(?:\.|__|\/|:)(.+)$/.exec(asked.tool.trim());
  const prefix = parts?.[1] === undefined ? null : findName(parts[1], servers);
  if (
    prefix !== null &&
    (named === null || named === prefix) &&
    (named !== null || asked.server === '')
  ) {
    return { server: prefix, tool: parts?.[2] ?? '' };
  }
  return { server: named, tool: asked.tool.trim() };
}

/** The tool of a server that is meant, or null. `tools` are its live names. */
export function findTool(server: string, tool: string, tools: readonly string[]): ToolId | null {
  const old = OLD_NAMES[`${server}.${plain(tool)}`];
  if (old !== undefined && tools.includes(old.tool)) return { server, ...old };
  const found = findName(tool, tools) ?? findName(`${server}_${tool}`, tools);
  return found === null ? null : { server, tool: found, implied: {} };
}

/** The one name that is the same but for case, dashes and camel humps. */
function findName(name: string, known: readonly string[]): string | null {
  if (known.includes(name)) return name;
  const alike = known.filter(candidate => plain(candidate) === plain(name));
  return alike.length === 1 ? (alike[0] ?? null) : null; // N1
}

function plain(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '');
}

type OldName = { readonly tool: string; readonly implied: Readonly<Record<string, unknown>> };

const OLD_NAMES: Readonly<Record<string, OldName>> = {
  'fetch.fetchhtml': { tool: 'fetch', implied: { raw: true } },
  'fetch.fetchjson': { tool: 'fetch', implied: { raw: true } },
  'fetch.fetchtext': { tool: 'fetch', implied: {} },
  'filesystem.createfile': { tool: 'write_file', implied: {} },
  'filesystem.mkdir': { tool: 'create_directory', implied: {} },
  'filesystem.makedirectory': { tool: 'create_directory', implied: {} },
  'filesystem.listfiles': { tool: 'list_directory', implied: {} },
  'filesystem.renamefile': { tool: 'move_file', implied: {} },
};

/** What to do instead of tools that people expect and no server has. */
export function absentToolHint(server: string, tool: string): string | null {
  if (server !== 'git') return null;
  const verbs: Readonly<Record<string, string>> = {
    init: 'the repository exists already; write files and commit',
    gitinit: 'the repository exists already; write files and commit',
    gitclone: 'repositories from outside are not cloned',
    gitmerge: 'attempts are merged when they are done; nothing to call',
    gitpush: 'nothing is pushed from a build',
    gitpull: 'nothing is pulled into a build',
  };
  return verbs[plain(tool)] ?? null;
}

/**
 * Arguments under the names that the schema knows: old and common names are renamed where the
 * right one is absent, one string becomes a list where a list is wanted.
 */
export function renameArguments(
  tool: string,
  args: Readonly<Record<string, unknown>>,
  properties: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const renamed: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(args)) {
    const right = Object.hasOwn(properties, name) ? name : rightName(tool, name, properties);
    const taken = right !== name && (Object.hasOwn(args, right) || Object.hasOwn(renamed, right));
    renamed[taken ? name : right] = value;
  }
  for (const [name, value] of Object.entries(renamed)) {
    if (typeof value === 'string' && Object(properties[name]).type === 'array') {
      renamed[name] = [value];
    }
  }
  return renamed;
}

function rightName(
  tool: string,
  name: string,
  properties: Readonly<Record<string, unknown>>,
): string {
  const alike = Object.keys(properties).filter(property => plain(property) === plain(name));
  if (alike.length === 1) return alike[0] ?? name;
  const old = OLD_ARGUMENTS[plain(name)]?.find(property => Object.hasOwn(properties, property));
  return old ?? (tool === 'git_add' && plain(name) === 'paths' ? 'files' : name);
}

const OLD_ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  filepath: ['path'],
  filename: ['path'],
  file: ['path', 'files'],
  directory: ['path'],
  dir: ['path'],
  contents: ['content'],
  text: ['content'],
  code: ['content'],
  data: ['content'],
  from: ['source'],
  to: ['destination'],
  paths: ['files'],
  branch: ['branch_name'],
  commit: ['revision'],
};
