/** `models`: every model that is installed anywhere, on which machines, and how fast it is there. */
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import {
  duration,
  gib,
  type InstalledModel,
  installedModels,
  isLoaded,
  readNodes,
} from '../pool-view.ts';
import { table } from '../terminal.ts';

export async function models(context: CommandContext): Promise<number> {
  const byName = groupByName(installedModels(await readNodes(context)));
  const rows = [...byName].sort(([left], [right]) => (left < right ? -1 : 1));
  const json = rows.map(([name, copies]) => ({ name, copies: copies.map(described) }));
  context.terminal.result(json, () =>
    rows.length === 0
      ? 'no model is installed; `codegod models pull qwen2.5-coder:7b` brings one'
      : table([
          ['MODEL', 'SIZE', 'PARAMETERS', 'QUANT', 'CONTEXT', 'CAN', 'NODES (* LOADED)', 'SPEED'],
          ...rows.map(([name, copies]) => rowOf(name, copies)),
        ]),
  );
  return EXIT.ok;
}

function groupByName(all: readonly InstalledModel[]): Map<string, InstalledModel[]> {
  const groups = new Map<string, InstalledModel[]>();
  for (const one of all) {
    groups.set(one.model.name, [...(groups.get(one.model.name) ?? []), one]);
  }
  return groups;
}

const described = ({ node, engine, model }: InstalledModel) => ({
  node,
  engine,
  digest: model.digest,
  size_bytes: model.size_bytes,
  family: model.family,
  parameter_size: model.parameter_size,
  quantization: model.quantization,
  context_max: model.context_max,
  capabilities: model.capabilities,
  loaded: model.loaded,
  load_ms: model.load_ms ?? null,
  prompt_tokens_per_s: model.prompt_tokens_per_s ?? null,
  output_tokens_per_s: model.output_tokens_per_s ?? null,
});

function rowOf(name: string, copies: readonly InstalledModel[]): string[] {
  const first = copies[0]?.model;
  if (first === undefined) return [name];
  return [
    name,
    gib(first.size_bytes),
    first.parameter_size || '-',
    first.quantization || '-',
    first.context_max === 0 ? '?' : String(first.context_max),
    first.capabilities.join(',') || '-',
    copies.map(({ node, model }) => `${node}${isLoaded(model) ? '*' : ''}`).join(', '),
    speedOf(copies),
  ];
}

/** The fastest copy, as measured. */
function speedOf(copies: readonly InstalledModel[]): string {
  const rates = copies.map(({ model }) => model.output_tokens_per_s ?? 0);
  const best = copies[rates.indexOf(Math.max(...rates))];
  const rate = best?.model.output_tokens_per_s ?? 0;
  if (best === undefined || rate === 0) return 'not measured';
  const load = best.model.load_ms;
  const loads = typeof load === 'number' ? `, loads in ${duration(load)}` : '';
  return `${rate.toFixed(0)} tok/s on ${best.node}${loads}`;
}
