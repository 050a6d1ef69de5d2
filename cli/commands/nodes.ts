/** `nodes`: the machines of the pool, how they are, what they have. */
import { systemClock } from '../../runtime/clock.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import {
  duration,
  gib,
  gpuLine,
  isLoaded,
  modelsOf,
  type NodeEntry,
  readNodes,
  stateOf,
  troublesOf,
  workLine,
} from '../pool-view.ts';
import { table } from '../terminal.ts';

export async function nodes(context: CommandContext): Promise<number> {
  const list = await readNodes(context);
  const now = systemClock.now();
  context.terminal.result(list, () =>
    table([
      [
        'NODE',
        'STATE',
        'HEARD',
        'RAM FREE',
        'GPU FREE/ALL',
        'MODELS (* LOADED)',
        'SLOTS',
        'LABELS',
      ],
      ...list.map(entry => [
        entry.node,
        stateOf(entry, now),
        `${duration(now - entry.seen_at)} ago`,
        gib(entry.capacity?.ram.available_bytes),
        gpuLine(entry.capacity?.gpus ?? []),
        [modelLine(entry), ...troublesOf(entry, now)].join('; '),
        workLine(entry),
        labelLine(entry.runtime?.labels ?? {}),
      ]),
    ]),
  );
  return EXIT.ok;
}

const NAMES_MAX = 6;

function modelLine(entry: NodeEntry): string {
  const names = modelsOf(entry)
    .map(({ model }) => model)
    .sort((left, right) => Number(isLoaded(right)) - Number(isLoaded(left)))
    .map(model => `${model.name}${isLoaded(model) ? '*' : ''}`);
  const more = names.length - NAMES_MAX;
  if (names.length === 0) return '-';
  return `${names.slice(0, NAMES_MAX).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

const labelLine = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',') || '-';
