/** `models pull`: brings a model to machines, all at once, with the progress of each. */
import { PullProgress, type PullRequest } from '../../protocol/inference.ts';
import { nodeSubject } from '../../protocol/subjects.ts';
import type { Messenger } from '../../runtime/messages.ts';
import { withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT, toFailure } from '../exit-code.ts';
import { gib, type NodeEntry, nodesNamed, readNodes } from '../pool-view.ts';
import { onStopSignals } from '../stop-signals.ts';

const FIRST_MS = 30_000;
/** Engines are silent while they verify a large file. */
const IDLE_MS = 600_000;

/** Exit code 1 where a machine did not get it. */
export async function pull(
  context: CommandContext,
  model: string,
  options: { readonly nodes?: readonly string[] },
): Promise<number> {
  const targets = targetsOf(await readNodes(context), options.nodes);
  const stop = new AbortController();
  const release = onStopSignals(() => stop.abort(new CliError('interrupted', 'interrupted')));
  try {
    const failures = await withBus(await context.config(), async ({ messenger }) => {
      const pulls = targets.map(({ node }) =>
        pullOne(context, messenger, node, model, stop.signal),
      );
      return (await Promise.all(pulls)).filter(error => error !== null);
    });
    return failures.length === 0 ? EXIT.ok : EXIT.failed;
  } finally {
    release();
  }
}

function targetsOf(
  nodes: readonly NodeEntry[],
  wanted: readonly string[] | undefined,
): readonly NodeEntry[] {
  if (wanted !== undefined) return nodesNamed(nodes, wanted);
  const able = nodes.filter(({ runtime }) =>
    runtime?.engines.some(({ name, available }) => available && name !== 'scaffold'),
  );
  if (able.length === 1) return able;
  const names = able.map(({ node }) => node).join(', ');
  throw able.length === 0
    ? new CliError('engine_unavailable', 'no machine has an engine that could pull a model')
    : new CliError('usage', 'there are several machines', `name some of them: --nodes ${names}`);
}

/** Null, or why it failed, which has been said. */
async function pullOne(
  { terminal }: CommandContext,
  messenger: Messenger,
  node: NodeEntry['node'],
  model: string,
  signal: AbortSignal,
): Promise<Error | null> {
  const request: PullRequest = { model };
  const options = { first_ms: FIRST_MS, idle_ms: IDLE_MS, signal };
  let told = '';
  try {
    const subject = nodeSubject(node as Parameters<typeof nodeSubject>[0], 'pull');
    for await (const progress of messenger.askStream(subject, request, PullProgress, options)) {
      terminal.data({ node, ...progress });
      const line = lineOf(progress);
      if (line !== told && !terminal.isJson) terminal.note(`${node}: ${line}`);
      told = line;
    }
    terminal.line(`${node}: ${model} is there`);
    return null;
  } catch (error) {
    const { code, message, hint } = toFailure(error);
    terminal.data({ node, error: { code, message, hint } });
    terminal.note(`${node}: ${message}${hint === null ? '' : ` (${hint})`}`);
    return error instanceof Error ? error : new Error(message);
  }
}

/** In steps of 5 %, so that a log of it can be read. */
function lineOf({ status, total_bytes: total, completed_bytes: done }: PullProgress): string {
  if (total === undefined || total === 0) return status;
  const percent = Math.floor((20 * (done ?? 0)) / total) * 5;
  return `${status}: ${percent} % of ${gib(total)}`;
}
