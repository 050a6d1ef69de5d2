/**
 * Brings a plan into the shape of the schema where only the spelling is off: other key names, words
 * for task types, single values for lists, ids with capitals or blanks, a command as one string.
 *
 * K1: no task, dependency or file is invented or dropped. What cannot be mapped stays as it is, and
 *     the schema or the master names it.
 */
import { OWNS_MAX } from '../../../protocol/limits.ts';
import type { ToolDescription } from '../../../protocol/mcp.ts';
import { TaskType } from '../../../protocol/plan.ts';
import { isRecord } from './answer.ts';
import { checkOf } from './plan-check.ts';
import { toolIdOf } from './resolve-tool.ts';

export interface PlanHints {
  /** Used where the plan gives no name of its own. */
  readonly prompt: string;
  readonly tech_stack: Readonly<Record<string, string>>;
  /** The tools that the planner was told of. */
  readonly tools?: readonly ToolDescription[];
}

type Loose = Record<string, unknown>;

export function coercePlan(given: Loose, hints: PlanHints): Loose {
  const tasks = listOf(given['tasks']);
  const ids = idsOf(tasks);
  const name = slug(textOf(given['name'] ?? given['project_name'] ?? given['title']), 50);
  return {
    ...given,
    name: name || slug(hints.prompt.split(/\s+/).slice(0, 6).join(' '), 50) || 'project',
    summary: textOf(given['summary'] ?? given['description']).slice(0, 4_096),
    stack: stackOf(given['stack'] ?? given['tech_stack'], hints),
    check: checkOf(given['check'] ?? given['check_command'] ?? given['test_command']),
    tasks: tasks.map((task, index) => coerceTask(task, index, ids, hints.tools ?? [])),
  };
}

/** A list of tasks; a map of tasks gives each its key as id. */
function listOf(tasks: unknown): Loose[] {
  if (Array.isArray(tasks)) return tasks.map(task => (isRecord(task) ? task : { title: task }));
  if (!isRecord(tasks)) return [];
  return Object.entries(tasks).map(([id, task]) => (isRecord(task) ? { id, ...task } : { id }));
}

/** Every way in which a task may be named by another one, mapped to its id. */
function idsOf(tasks: readonly Loose[]): Map<string, string> {
  const ids = new Map<string, string>();
  tasks.forEach((task, index) => {
    const id = idOf(task, index);
    for (const name of [id, task['id'], task['name'], task['title'], index + 1]) {
      const key = textOf(name).trim().toLowerCase();
      if (key !== '' && !ids.has(key)) ids.set(key, id);
    }
  });
  return ids;
}

function idOf(task: Loose, index: number): string {
  const given = textOf(task['id'] ?? task['task_id'] ?? task['name'] ?? task['title']);
  const word = slug(given, 40);
  if (word === '') return `task-${index + 1}`;
  return /^[a-z]/.test(word) ? word : `task-${word}`.slice(0, 40);
}

function coerceTask(
  task: Loose,
  index: number,
  ids: ReadonlyMap<string, string>,
  tools: readonly ToolDescription[],
): Loose {
  const id = idOf(task, index);
  const goal = textOf(task['goal'] ?? task['description'] ?? task['prompt'] ?? task['title']);
  const coerced: Loose = {
    ...task,
    id,
    title: (textOf(task['title'] ?? task['name']) || goal || id).split('\n', 1)[0]?.slice(0, 256),
    type: typeOf(task['type'], id),
    goal: goal.slice(0, 8_192),
    owns: paths(task['owns'] ?? task['files'] ?? task['file_path'] ?? task['outputs']),
    mcp_tools: toolsOf(task['mcp_tools'] ?? task['tools'], tools),
    depends_on: dependenciesOf(task['depends_on'] ?? task['dependencies'], ids),
    acceptance: strings(task['acceptance'] ?? task['acceptance_criteria']),
    reads: paths(task['reads'] ?? task['inputs']),
    priority: priorityOf(task['priority']),
    optional: task['optional'] === true || task['optional'] === 'true',
  };
  return coerced;
}

const TYPE_WORDS: readonly (readonly [RegExp, TaskType])[] = [
  [/contract|schema|openapi|specification/, 'contract'],
  [/test|qa|quality/, 'testing'],
  [/doc|readme/, 'documentation'],
  [/front|ui\b|client|html|css/, 'frontend'],
  [/data|db|sql|storage|store|model|persist/, 'database'],
  [/devops|deploy|docker|ci\b|infra|config|setup|scaffold/, 'devops'],
  [/integrat/, 'integration'],
  [/fix|bug/, 'bugfix'],
  [/refactor|clean/, 'refactor'],
  [/api|route|endpoint|rest/, 'api'],
  [/back|server|service|logic|core|code|implement|feature|develop/, 'backend'],
];

function typeOf(given: unknown, id: string): unknown {
  const word = textOf(given).trim().toLowerCase();
  if (TaskType.options.some(type => type === word)) return word;
  for (const text of [word, id]) {
    const found = text === '' ? undefined : TYPE_WORDS.find(([pattern]) => pattern.test(text));
    if (found !== undefined) return found[1];
  }
  return word === '' ? 'backend' : given;
}

function dependenciesOf(given: unknown, ids: ReadonlyMap<string, string>): string[] {
  const names = Array.isArray(given)
    ? given.map(item => (isRecord(item) ? (item['id'] ?? item['task']) : item))
    : strings(given);
  const known = names.map(name => {
    const key = textOf(name).trim().toLowerCase();
    // An unknown one stays and is refused by the master: dropping it would run tasks too early.
    return ids.get(key) ?? ids.get(slug(key, 40)) ?? slug(key, 40);
  });
  return [...new Set(known.filter(name => name !== ''))];
}

function toolsOf(given: unknown, tools: readonly ToolDescription[]): string[] {
  const names = toolNames(given).map(name => {
    const word = name
      .trim()
      .replace(/^mcp__/, '')
      .replace('__', '.');
    return toolIdOf(word, tools) ?? word;
  });
  return [...new Set(names.filter(name => name !== ''))];
}

function toolNames(given: unknown): string[] {
  if (isRecord(given)) {
    return Object.entries(given).flatMap(([server, tools]) =>
      strings(tools).map(tool => (tool.includes('.') ? tool : `${server}.${tool}`)),
    );
  }
  const list = Array.isArray(given) ? given : strings(given);
  return list.flatMap(item => {
    if (!isRecord(item)) return typeof item === 'string' ? [item] : [];
    const server = textOf(item['server']);
    const tools =
      item['tools'] === undefined ? [textOf(item['tool'] ?? item['name'])] : strings(item['tools']);
    return tools.map(tool => (server === '' ? tool : `${server}.${tool}`));
  });
}

function priorityOf(given: unknown): unknown {
  const words: Record<string, number> = { critical: 10, high: 8, medium: 5, normal: 5, low: 2 };
  const word = textOf(given).trim().toLowerCase();
  const number = words[word] ?? Number(word);
  return word !== '' && Number.isFinite(number) ? Math.min(10, Math.max(1, Math.round(number))) : 5;
}

function stackOf(given: unknown, hints: PlanHints): string {
  const text = isRecord(given) ? Object.values(given).map(textOf).join(' ') : textOf(given);
  const all = text.trim() === '' ? Object.values(hints.tech_stack).join(' ') : text;
  if (/fastapi/i.test(all)) return 'fastapi';
  if (/\bnode(?:\.?js)?\b|express|javascript/i.test(all)) return 'node';
  return slug(all, 32) || 'other';
}

function paths(given: unknown): string[] {
  const list = Array.isArray(given)
    ? given.map(item => (isRecord(item) ? (item['path'] ?? item['name']) : item))
    : strings(given);
  const tidy = list
    .filter(item => typeof item === 'string')
    .map(path =>
      path
        .trim()
        .replace(/^`|`$/g, '')
        .replace(/^(?:\.\/)+/, '')
        .replace(/(?<!\/)\/+$/, '/**'),
    )
    .filter(path => path !== '');
  return [...new Set(tidy)].slice(0, OWNS_MAX + 1);
}

/** A list of strings, from a list, one string, or its lines. */
function strings(given: unknown): string[] {
  if (Array.isArray(given)) return given.filter(item => typeof item === 'string');
  if (typeof given !== 'string') return [];
  const text = given.trim();
  if (text.startsWith('[')) {
    try {
      return strings(JSON.parse(text));
    } catch {
      // Not JSON after all: it is read as lines, below.
    }
  }
  const parts = text.includes('\n') ? text.split('\n') : text.split(',');
  return parts.map(part => part.replace(/^\s*[-*]\s+/, '').trim()).filter(part => part !== '');
}

const textOf = (value: unknown): string =>
  typeof value === 'string' ? value : typeof value === 'number' ? String(value) : '';

function slug(text: string, lengthMax: number): string {
  return text
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, lengthMax)
    .replace(/^-+|-+$/g, '');
}
