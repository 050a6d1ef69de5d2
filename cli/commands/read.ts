/** `builds`, `show`, `nodes`, `mcp`: what the master tells at its HTTP door. */
import type { BuildSummary } from '../../protocol/build.ts';
import type { ToolServerStatus } from '../../protocol/mcp.ts';
import type { EngineAdvert, GpuAdvert, PlacementDecision } from '../../protocol/node.ts';
import { systemClock } from '../../runtime/clock.ts';
import { byNewest, parseBuildId } from '../build-id.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { getFromMaster } from '../master-client.ts';
import { table } from '../terminal.ts';

export async function builds(
  context: CommandContext,
  options: { readonly limit: number },
): Promise<number> {
  const list = await listBuilds(context, options.limit);
  context.terminal.result(list, () =>
    list.length === 0
      ? 'no build yet: codegod build "Create a REST API for …"'
      : table([
          ['ID', 'STATE', 'NAME', 'TASKS', 'AGE', 'PROMPT'],
          ...list.map(one => [
            one.id,
            one.state,
            one.name ?? '-',
            `${one.tasks.filter(task => task.state === 'merged').length}/${one.tasks.length}`,
            age(one.created_at),
            firstLine(one.prompt, 60),
          ]),
        ]),
  );
  return EXIT.ok;
}

export async function show(context: CommandContext, text: string): Promise<number> {
  const config = await context.config();
  const id = await resolveBuild(context, text);
  const summary = (await getFromMaster(config, `/builds/${id}`)) as BuildSummary;
  context.terminal.result(summary, () => renderBuild(summary));
  return EXIT.ok;
}

async function listBuilds(context: CommandContext, limit: number): Promise<BuildSummary[]> {
  const answer = await getFromMaster(await context.config(), `/builds?limit=${limit}`);
  return listIn<BuildSummary>(answer, 'builds').sort(byNewest);
}

/** `b42` for whatever names a build. */
export async function resolveBuild(context: CommandContext, text: string): Promise<string> {
  const id = parseBuildId(text);
  if (id !== 'latest') return id;
  const [newest] = await listBuilds(context, 1);
  if (newest === undefined) throw new CliError('not_found', 'there is no build yet');
  return newest.id;
}

function renderBuild(build: BuildSummary): string {
  const check = build.checks.at(-1);
  const lines = [
    `${build.id}  ${build.state}${build.waiting === null ? '' : `: ${build.waiting}`}`,
    `prompt   ${firstLine(build.prompt, 200)}`,
    `project  ${build.name ?? '-'} (${build.stack ?? '-'})`,
    `path     ${build.path ?? '-'}`,
    `written  by ${build.models.length === 0 ? '-' : build.models.join(', ')}`,
  ];
  if (check !== undefined) {
    lines.push(`tests    ${check.tests_passed} passed, ${check.tests_failed} failed`);
  }
  if (build.error !== null) lines.push(`why      ${build.error.message}`);
  if (build.error?.hint !== undefined) lines.push(`         ${build.error.hint}`);
  for (const unmet of build.unmet) lines.push(`unmet    ${unmet}`);
  const { prompt_tokens, output_tokens, tool_calls, remote_turns } = build.usage;
  lines.push(
    `usage    ${prompt_tokens} + ${output_tokens} tokens, ${tool_calls} tool calls, ` +
      `${remote_turns} turns outside the house`,
    '',
    table([
      ['TASK', 'STATE', 'ATTEMPT', 'MODEL', 'NODE', 'TITLE'],
      ...build.tasks.map(task => [
        task.id,
        task.state,
        String(task.attempt),
        task.model ?? '-',
        task.node ?? '-',
        task.error === null ? task.title : firstLine(task.error.message, 100),
      ]),
    ]),
  );
  if (check !== undefined && !check.passed) lines.push('', check.output.trimEnd());
  return lines.join('\n');
}

interface DecisionView {
  readonly task: string;
  readonly attempt: number;
  readonly decision: PlacementDecision;
}

/** `explain`: where each attempt went, and what spoke for and against each candidate. */
export async function explain(context: CommandContext, text: string): Promise<number> {
  const id = await resolveBuild(context, text);
  const answer = await getFromMaster(await context.config(), `/builds/${id}/decisions`);
  const list = listIn<DecisionView>(answer, 'decisions');
  context.terminal.result(list, () =>
    list
      .map(({ task, attempt, decision }) =>
        [
          `${task} (attempt ${attempt}): ${decision.reason}`,
          ...decision.candidates.map(
            ({ node, engine, model, verdict, reason }) =>
              `    ${verdict.padEnd(14)}  ${node}  ${engine} ${model}: ${reason}`,
          ),
        ].join('\n'),
      )
      .join('\n'),
  );
  return EXIT.ok;
}

interface NodeView {
  readonly node: string;
  readonly state?: string;
  readonly capacity?: {
    readonly ram?: { readonly available_bytes: number; readonly total_bytes: number };
    readonly gpus?: readonly GpuAdvert[];
  } | null;
  readonly runtime?: {
    readonly engines?: readonly EngineAdvert[];
    readonly slots?: number;
    readonly slots_used?: number;
  } | null;
}

export async function nodes(context: CommandContext): Promise<number> {
  const answer = await getFromMaster(await context.config(), '/nodes');
  const list = listIn<NodeView>(answer, 'nodes');
  context.terminal.result(list, () =>
    table([
      ['NODE', 'RAM FREE', 'GPU', 'MODELS', 'SLOTS'],
      ...list.map(one => [
        one.node,
        gib(one.capacity?.ram?.available_bytes),
        gpuLine(one.capacity?.gpus ?? []),
        modelLine(one.runtime?.engines ?? []),
        `${one.runtime?.slots_used ?? '-'}/${one.runtime?.slots ?? '-'}`,
      ]),
    ]),
  );
  return EXIT.ok;
}

const gpuLine = (gpus: readonly GpuAdvert[]): string =>
  gpus.length === 0
    ? '-'
    : gpus.map(gpu => `${gpu.name} ${gib(gpu.free_bytes)}/${gib(gpu.total_bytes)}`).join(', ');

function modelLine(engines: readonly EngineAdvert[]): string {
  const names = engines
    .filter(engine => engine.available)
    .flatMap(engine => engine.models.map(model => `${model.name}${model.loaded ? '*' : ''}`));
  return names.length === 0 ? '-' : names.join(', ');
}

export async function mcp(context: CommandContext): Promise<number> {
  const answer = await getFromMaster(await context.config(), '/mcp/servers');
  const list = listIn<ToolServerStatus>(answer, 'servers');
  context.terminal.result({ servers: list }, () =>
    table([
      ['SERVER', 'STATE', 'TOOLS', 'VERSION', ''],
      ...list.map(one => [
        one.name,
        one.state,
        String(one.tools?.length ?? 0),
        one.version ?? '-',
        [one.reason, one.fix].filter(Boolean).join(' → '),
      ]),
    ]),
  );
  return EXIT.ok;
}

/** A list, alone or under its name. */
function listIn<T>(answer: unknown, name: string): T[] {
  if (Array.isArray(answer)) return answer as T[];
  const list = (answer as Readonly<Record<string, unknown>> | null)?.[name];
  if (Array.isArray(list)) return list as T[];
  throw new CliError('bad_message', `the master's answer holds no ${name}`);
}

function firstLine(text: string, lengthMax: number): string {
  const line = text.trim().split('\n', 1)[0] ?? '';
  return line.length > lengthMax ? `${line.slice(0, lengthMax - 1)}…` : line;
}

function gib(bytes: number | null | undefined): string {
  return bytes === null || bytes === undefined ? '?' : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function age(since: number): string {
  const seconds = Math.max(0, Math.round((systemClock.now() - since) / 1_000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}
