/** `builds`, `show`, `mcp`: what the master tells at its HTTP door. */
import type { BuildSummary } from '../../protocol/build.ts';
import type { ToolServerStatus } from '../../protocol/mcp.ts';
import { systemClock } from '../../runtime/clock.ts';
import { byNewest, parseBuildId } from '../build-id.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { getFromMaster } from '../master-client.ts';
import { duration, listIn } from '../pool-view.ts';
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
            duration(systemClock.now() - one.created_at),
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

export async function mcp(context: CommandContext): Promise<number> {
  const answer = await getFromMaster(await context.config(), '/mcp/servers');
  const list = listIn<ToolServerStatus>(answer, 'servers');
  context.terminal.result(
    { servers: list },
    () =>
      table([
        ['SERVER', 'STATE', 'TOOLS', 'VERSION', ''],
        ...list.map(one => [
          one.name,
          one.state,
          String(one.tools?.length ?? 0),
          one.version ?? '-',
          [one.reason, one.fix].filter(Boolean).join(' → '),
        ]),
      ]) + list.flatMap(remarksOf).join(''),
  );
  return EXIT.ok;
}

const remarksOf = ({ name, remarks }: ToolServerStatus): string[] =>
  (remarks ?? []).map(remark => `\n${name}: ${remark}`);

function firstLine(text: string, lengthMax: number): string {
  const line = text.trim().split('\n', 1)[0] ?? '';
  return line.length > lengthMax ? `${line.slice(0, lengthMax - 1)}…` : line;
}
