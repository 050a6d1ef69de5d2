/** `ps`: the models that are loaded, in the columns that Ollama's own `ps` has, and where. */
import type { ModelAdvert } from '../../protocol/node.ts';
import { systemClock } from '../../runtime/clock.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import { duration, gib, installedModels, isLoaded, readNodes } from '../pool-view.ts';
import { table } from '../terminal.ts';

export async function ps(context: CommandContext): Promise<number> {
  const now = systemClock.now();
  const loaded = installedModels(await readNodes(context)).filter(({ model }) => isLoaded(model));
  const rows = loaded.map(({ node, engine, model }) => ({
    name: model.name,
    digest: model.digest,
    node,
    engine,
    state: model.state ?? 'loaded',
    vram_bytes: model.vram_bytes,
    ram_bytes: model.ram_bytes,
    context_tokens: model.context_tokens,
    in_flight: model.in_flight ?? null,
    slots: model.slots ?? null,
    used_at: model.used_at ?? null,
    kept: model.kept ?? false,
    output_tokens_per_s: model.output_tokens_per_s ?? null,
  }));
  context.terminal.result(rows, () =>
    rows.length === 0
      ? 'no model is loaded'
      : table([
          ['NAME', 'ID', 'SIZE', 'PROCESSOR', 'CONTEXT', 'NODE', 'STATE', 'AT WORK', 'USED'],
          ...loaded.map(({ node, model }) => [
            model.name,
            model.digest.replace(/^sha256:/, '').slice(0, 12),
            gib(sizeOf(model)),
            processorOf(model),
            String(model.context_tokens ?? '?'),
            node,
            `${model.state ?? 'loaded'}${model.kept === true ? ' (kept)' : ''}`,
            `${model.in_flight ?? '?'}/${model.slots ?? '?'}`,
            typeof model.used_at === 'number' ? `${duration(now - model.used_at)} ago` : '-',
          ]),
        ]),
  );
  return EXIT.ok;
}

const sizeOf = ({ vram_bytes, ram_bytes }: ModelAdvert): number | null =>
  vram_bytes === null && ram_bytes === null ? null : (vram_bytes ?? 0) + (ram_bytes ?? 0);

/** `100% GPU`, `100% CPU`, `25%/75% CPU/GPU`, as Ollama says it. */
function processorOf(model: ModelAdvert): string {
  const size = sizeOf(model);
  if (size === null || size === 0) return '?';
  const gpu = Math.round((100 * (model.vram_bytes ?? 0)) / size);
  if (gpu === 100) return '100% GPU';
  return gpu === 0 ? '100% CPU' : `${100 - gpu}%/${gpu}% CPU/GPU`;
}
