/**
 * `explain`: where the attempts of a build or one request went, what spoke for and against each
 * candidate, and what would change it.
 */

import { RequestId } from '../../protocol/inference.ts';
import type { PlacementCandidate, PlacementDecision } from '../../protocol/node.ts';
import { RequestRecord } from '../../protocol/pool.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { getFromMaster } from '../master-client.ts';
import { gib, listIn } from '../pool-view.ts';
import { resolveBuild } from './read.ts';

interface DecisionView {
  readonly task: string;
  readonly attempt: number;
  readonly decision: PlacementDecision;
}

export async function explain(context: CommandContext, text: string): Promise<number> {
  const config = await context.config();
  const request = RequestId.safeParse(text);
  if (request.success) {
    const answer = await getFromMaster(config, `/decisions/${request.data}`);
    const record = RequestRecord.parse(answer);
    context.terminal.result(record, () => renderRequest(record));
    return EXIT.ok;
  }
  const id = await resolveBuild(context, text);
  const answer = await getFromMaster(config, `/builds/${id}/decisions`);
  const list = listIn<DecisionView>(answer, 'decisions');
  context.terminal.result(list, () =>
    list
      .map(({ task, attempt, decision }) =>
        [`${task} (attempt ${attempt}):`, indent(renderDecision(decision))].join('\n'),
      )
      .join('\n'),
  );
  return EXIT.ok;
}

/** What became of a request: each node that was tried, then the last decision. */
function renderRequest(record: RequestRecord): string {
  const { id, model, state, waited_ms: waited, tries, decision, error } = record;
  const wait = waited === null ? 'still waiting' : `waited ${(waited / 1_000).toFixed(1)} s`;
  return [
    `${id}  ${model ?? 'auto'}  ${state}, ${wait}`,
    ...tries.map(
      one => `    ${one.node}: ${one.outcome}${one.error === null ? '' : `, ${one.error.message}`}`,
    ),
    ...(error === null ? [] : [`why   ${error.message}`]),
    ...(decision === null ? [] : [renderDecision(decision)]),
  ].join('\n');
}

/** The choice, what it needs, every candidate, and last what would change it. */
export function renderDecision(decision: PlacementDecision): string {
  const { need, runner_up: runnerUp, would_change: wouldChange } = decision;
  return [
    decision.reason,
    ...(need === undefined ? [] : [needLine(need)]),
    ...decision.candidates.map(candidate => indent(candidateLine(candidate))),
    ...(runnerUp == null ? [] : [`next best: ${runnerUp.model} on ${runnerUp.node}`]),
    ...(wouldChange === undefined ? [] : [`it would change: ${wouldChange}`]),
  ].join('\n');
}

function needLine(need: NonNullable<PlacementDecision['need']>): string {
  const parts = [
    ['weights', need.weights_bytes],
    ['cache', need.kv_bytes],
    ['compute', need.compute_bytes],
    ['projector', need.projector_bytes],
    ['overhead', need.overhead_bytes],
  ] as const;
  const shown = parts
    .filter(([, bytes]) => bytes > 0)
    .map(([name, bytes]) => `${name} ${gib(bytes)}`);
  const learnt = need.residual_bytes ?? 0;
  const residual =
    learnt === 0 ? '' : ` ${learnt < 0 ? '−' : '+'} ${gib(Math.abs(learnt))} as observed`;
  return `needs ${shown.join(' + ')}${residual} (${need.source})`;
}

function candidateLine(candidate: PlacementCandidate): string {
  const { verdict, node, engine, model, reason, score } = candidate;
  const time = score === undefined ? '' : `  [${scoreLine(score)}]`;
  return `${verdict.padEnd(14)}  ${node}  ${engine} ${model}: ${reason}${time}`;
}

function scoreLine(score: NonNullable<PlacementCandidate['score']>): string {
  const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
  const terms = [
    ['wait', score.wait_ms],
    ['load', score.load_ms],
    ['read', score.prefill_ms],
    ['write', score.decode_ms],
    ['evict', score.evict_ms],
  ] as const;
  const shown = terms.filter(([, ms]) => ms > 0).map(([name, ms]) => `${name} ${seconds(ms)}`);
  return `${seconds(score.total_ms)}${shown.length === 0 ? '' : `: ${shown.join(', ')}`}`;
}

const indent = (text: string): string =>
  text
    .split('\n')
    .map(line => `    ${line}`)
    .join('\n');
