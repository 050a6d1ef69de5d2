/**
 * The calls that a plan expects of a task, as a model may copy them word for word.
 *
 * X1: small models copy what stands in a prompt. So every call shown is one that would be right as it
 *     stands: whole arguments, paths of the kind that the tool takes. A call with an argument that
 *     nobody knows yet (a text, a query, an address) is left to its schema under TOOLS.
 */
import type { ToolDescription } from '../../../protocol/mcp.ts';
import type { TaskMessage } from '../../../protocol/task.ts';
import { isLiteral, isRecord } from '../answer/answer.ts';

interface Known {
  /** Files that the task owns by name, and no globs. */
  readonly owned: readonly string[];
  /** Files that were read for it. */
  readonly shown: readonly string[];
  readonly title: string;
}

const CALLS_MAX = 32;

export function expectedCalls(
  task: TaskMessage,
  tools: readonly ToolDescription[],
  shown: readonly string[],
): readonly object[] {
  const { card } = task;
  if (card === null) return [];
  const known: Known = { owned: card.owns.filter(isLiteral), shown, title: card.title };
  const calls = card.mcp_tools.flatMap(name => {
    const dot = name.indexOf('.');
    const [server, tool] = dot === -1 ? ['', name] : [name.slice(0, dot), name.slice(dot + 1)];
    const live = tools.find(candidate => candidate.server === server && candidate.name === tool);
    return argumentsOf(tool, live, known).map(args => ({ server, tool, arguments: args }));
  });
  return calls.slice(0, CALLS_MAX);
}

type Arguments = Readonly<Record<string, unknown>>;

/** One set of arguments for each call; none where they cannot be known. */
function argumentsOf(
  tool: string,
  live: ToolDescription | undefined,
  known: Known,
): readonly Arguments[] {
  if (tool === 'write_file') {
    return known.owned.map(path => ({ path, content: { $file: path } }));
  }
  const properties = live?.input_schema['properties'];
  const required: unknown = live?.input_schema['required'];
  if (!isRecord(properties) || !Array.isArray(required)) return [];
  const sets = required.includes('path') ? pathsOf(tool, known).map(path => ({ path })) : [{}];
  return sets.flatMap(set => {
    const args: Record<string, unknown> = {};
    for (const name of required) {
      const value = name === 'path' && 'path' in set ? set.path : knownValue(tool, name, known);
      if (value === undefined || typeof name !== 'string') return [];
      args[name] = value;
    }
    return [args];
  });
}

/** Paths of the kind that a tool takes: folders for those that list and make folders, files to be read. */
function pathsOf(tool: string, { owned, shown }: Known): readonly string[] {
  if (/^(?:list_|directory_)/.test(tool)) return ['.'];
  if (tool === 'create_directory') {
    const folders = owned.map(path => path.slice(0, Math.max(0, path.lastIndexOf('/'))));
    return [...new Set(folders)].filter(folder => folder !== '');
  }
  if (/^(?:read_(?:text_)?file|get_file_info)$/.test(tool)) return shown.slice(0, 1);
  return [];
}

function knownValue(tool: string, name: unknown, { owned, shown, title }: Known): unknown {
  if (name === 'repo_path') return '.';
  if (name === 'files' && tool === 'git_add' && owned.length > 0) return owned;
  if (name === 'paths' && tool === 'read_multiple_files' && shown.length > 0) return shown;
  if (name === 'message' && tool === 'git_commit') return title;
  return undefined;
}
