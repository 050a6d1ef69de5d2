/**
 * `POST /api/pull`: brings a model to one node, telling how far it is, line by line.
 *
 * L1: the node is the one that is named, else one that has the model already, else the one with the
 *     most memory among those that its policy allows.
 */
import { CodeGodError } from '../../../../protocol/errors.ts';
import type { NodeId } from '../../../../protocol/ids.ts';
import { PullProgress } from '../../../../protocol/inference.ts';
import type { CapacityAdvert } from '../../../../protocol/node.ts';
import { nodeSubject } from '../../../../protocol/subjects.ts';
import type { Messenger } from '../../../../runtime/messages.ts';
import type { NodeView } from '../../../../scheduling/node-view.ts';
import { DIRECT_ENGINES, type ModelDirectory } from '../../pool/model-directory.ts';
import type { Policies } from '../../pool/policies.ts';
import type { NodesPort } from '../../ports.ts';
import { type Answer, placeHeaders } from './answer.ts';
import { requireName } from './asked.ts';
import type { Body } from './body.ts';

const ACCEPTED_MS = 10_000;
/** Registries think for a while before and after the bytes. */
const SILENCE_MS = 300_000;

export interface PullOptions {
  readonly messenger: Messenger;
  readonly nodes: Pick<NodesPort, 'views'>;
  readonly directory: ModelDirectory;
  readonly policies: Policies;
}

export interface Pull {
  readonly model: string;
  readonly node: NodeId;
  readonly stream: boolean;
}

/** @throws CodeGodError `bad_request`, `no_capacity` */
export function pullOf(options: PullOptions, { value }: Body): Pull {
  const model = requireName(value);
  const node = targetOf(options, model, value['node']);
  return { model, node, stream: value['stream'] !== false };
}

export async function pull(
  { messenger }: PullOptions,
  { model, node, stream }: Pull,
  answer: Answer,
  signal: AbortSignal,
): Promise<void> {
  const progress = messenger.askStream(nodeSubject(node, 'pull'), { model }, PullProgress, {
    first_ms: ACCEPTED_MS,
    idle_ms: SILENCE_MS,
    signal,
  });
  let last: object = { status: 'success' };
  for await (const { status, digest, total_bytes, completed_bytes } of progress) {
    last = {
      status,
      ...(digest === undefined ? {} : { digest }),
      ...(total_bytes === undefined ? {} : { total: total_bytes }),
      ...(completed_bytes === undefined ? {} : { completed: completed_bytes }),
    };
    if (!stream) continue;
    answer.head({ node, model }, 200, 'application/x-ndjson');
    if (!answer.write(Buffer.from(`${JSON.stringify(last)}\n`))) await answer.drained();
  }
  if (stream && answer.hasBytes) answer.end();
  else answer.json(200, last, placeHeaders({ node, model }));
}

/** L1 */
function targetOf(
  { nodes, directory, policies }: PullOptions,
  model: string,
  named: unknown,
): NodeId {
  const pinned = policies.of(model)?.nodes ?? [];
  const views = nodes.views().filter(isReady);
  const allowed = views.filter(({ node }) => pinned.length === 0 || pinned.includes(node));
  if (named !== undefined && named !== null && named !== '') {
    const view = views.find(({ node }) => node === named);
    if (view !== undefined) return view.node;
    throw new CodeGodError('no_capacity', `there is no ready node ${String(named).slice(0, 63)}`);
  }
  const holders = directory.holders(model).map(({ node }) => node);
  const held = allowed.find(({ node }) => holders.includes(node));
  const largest = allowed.toSorted((left, right) => memoryOf(right) - memoryOf(left))[0];
  const chosen = held ?? largest;
  if (chosen !== undefined) return chosen.node;
  throw new CodeGodError('no_capacity', 'no node with a running model engine is ready');
}

function isReady({ runtime }: NodeView): boolean {
  if (runtime === null || runtime.advert.state !== 'ready') return false;
  return runtime.advert.engines.some(
    ({ name, available }) => available && DIRECT_ENGINES.includes(name),
  );
}

function memoryOf({ capacity }: NodeView): number {
  return capacity === null ? 0 : bytesOf(capacity.advert);
}

function bytesOf({ gpus, ram }: CapacityAdvert): number {
  const cards = gpus.reduce((sum, { total_bytes }) => sum + (total_bytes ?? 0), 0);
  return cards > 0 ? cards : ram.total_bytes;
}
