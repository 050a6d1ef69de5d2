/**
 * What a model would have answered to the prompt: a plan, the owned files with their envelope, or
 * a refusal.
 *
 * The request is read anew for every task, so a task needs nothing but the prompt; the same prompt
 * always gives the same answer.
 */

import { ownsPath } from '../../../../protocol/owned-paths.ts';
import { planFor } from './plan.ts';
import type { ProjectFile } from './project/project-file.ts';
import { renderProject } from './project/render-project.ts';
import { ABILITY, readRequest } from './request/read-request.ts';
import type { ServiceSpec } from './request/spec.ts';
import { type PromptSections, readSections, type TaskCard } from './sections.ts';

type RefusalReason = 'need_context' | 'contract_conflict' | 'impossible' | 'other';

/**
 * @returns the whole answer to a user message. A message without sections is taken as the request
 * itself.
 */
export function answerTo(message: string): string {
  const sections = readSections(message);
  const request = sections.request ?? (sections.task === null ? message : null);
  if (request === null) return refusal('need_context', 'The prompt has no REQUEST section.');
  const reading = readRequest(request, sections.techStack);
  if (reading.kind === 'refused') return refusal('impossible', reading.reason);
  const { spec } = reading;
  const { task } = sections;
  if (task?.id === 'plan' || task?.type === 'plan') return planAnswer(spec);
  const conflict = conflictWith(spec, sections);
  if (conflict !== null) return conflict;
  const files = renderProject(spec);
  return task === null ? filesAnswer(files) : taskAnswer(files, task);
}

function planAnswer(spec: ServiceSpec): string {
  return `A rule-based plan, made without a model.\n\n${jsonBlock(planFor(spec))}`;
}

/** A plan of another stack cannot be filled with these files. */
function conflictWith(spec: ServiceSpec, sections: PromptSections): string | null {
  const planned = sections.project['stack'];
  if (planned === undefined || planned === spec.stack) return null;
  const summary = `The plan is for "${planned}", the recipe for "${spec.stack}". ${ABILITY}`;
  return refusal('contract_conflict', summary);
}

function taskAnswer(files: readonly ProjectFile[], task: TaskCard): string {
  const owned = files.filter(file => ownsPath(task.owns, file.path));
  const unknown = task.owns.filter(glob => !files.some(file => ownsPath([glob], file.path)));
  if (owned.length > 0 && unknown.length === 0) return filesAnswer(owned);
  if (task.type === 'bugfix') {
    const summary = `The rules that wrote these files have nothing better to offer. ${ABILITY}`;
    return refusal('impossible', summary);
  }
  const named = unknown.length === 0 ? 'no file' : unknown.slice(0, 8).join(', ');
  return refusal(
    'contract_conflict',
    `The task owns ${named}, for which there is no recipe. ${ABILITY}`,
  );
}

function filesAnswer(files: readonly ProjectFile[]): string {
  const blocks = files.map(fileBlock).join('\n');
  const names = files.map(file => file.path).join(', ');
  const envelope = {
    success: true,
    summary: `Wrote ${names} by rule, without a model.`.slice(0, 2000),
    tool_calls: [...folderCalls(files), ...files.map(writeCall)],
  };
  return `Files made by rule, without a model.\n\n${blocks}\n${jsonBlock(envelope)}`;
}

function fileBlock(file: ProjectFile): string {
  const fence = '`'.repeat(longestRun(file.content) + 1);
  const language = /\.(js|py|json|md|toml|txt)$/.exec(file.path)?.[1] ?? 'text';
  return `${file.path}\n${fence}${language}\n${file.content}${fence}\n`;
}

/** The length of the longest run of backticks, at least 2 so that a fence has three. */
function longestRun(text: string): number {
  return Math.max(2, ...[...text.matchAll(/`+/g)].map(match => match[0].length));
}

/** Folders first: the filesystem server writes no file into a folder that is not there. */
function folderCalls(files: readonly ProjectFile[]): object[] {
  const folders = files
    .map(file => file.path.slice(0, Math.max(0, file.path.lastIndexOf('/'))))
    .filter(folder => folder !== '');
  return [...new Set(folders)].map(path => ({
    server: 'filesystem',
    tool: 'create_directory',
    arguments: { path },
  }));
}

function writeCall(file: ProjectFile): object {
  return {
    server: 'filesystem',
    tool: 'write_file',
    arguments: { path: file.path, content: { $file: file.path } },
  };
}

function refusal(reason: RefusalReason, summary: string): string {
  return jsonBlock({ success: false, reason, summary });
}

/**
 * Text from a prompt may hold backticks; inside JSON they are escaped, so the fence stays whole.
 */
function jsonBlock(value: object): string {
  return `\`\`\`json\n${JSON.stringify(value, null, 2).replaceAll('`', '\\u0060')}\n\`\`\`\n`;
}
