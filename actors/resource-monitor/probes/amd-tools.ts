/**
 * AMD's own tools, for machines whose sysfs has no memory figures: `amd-smi`, and `rocm-smi`, which
 * it replaces. Both print JSON whose shape changed with their releases.
 *
 * D1: `"N/A"` and whatever is no number is unknown.
 * D2: their MB are MiB.
 */
import { z } from 'zod';
import { busAddress, type Card, cardOf, type Findings, NOTHING } from '../card.ts';
import { bandwidthOf } from './bandwidth.ts';
import type { ProbeSite } from './site.ts';
import { firstLine, type ToolResult } from './tool.ts';

const MIB = 1024 * 1024;

/** `{"value": 24560, "unit": "MB"}`, a bare number, or `"N/A"`. */
const Amount = z.preprocess(found => {
  const value = z.looseObject({ value: z.unknown() }).safeParse(found).data?.value ?? found;
  return typeof value === 'number' && value >= 0 ? value : null;
}, z.number().nullable());
const Text = z.preprocess(
  found => (typeof found === 'string' && found !== '' && found !== 'N/A' ? found : null),
  z.string().nullable(),
);
/** A part that is absent or `"N/A"` is an empty one. */
const part = <T extends z.ZodRawShape>(shape: T) =>
  z.preprocess(
    found => (typeof found === 'object' && found !== null ? found : {}),
    z.looseObject(shape),
  );

const Metric = z.looseObject({
  gpu: z.number(),
  usage: part({ gfx_activity: Amount }),
  power: part({ socket_power: Amount }),
  temperature: part({ edge: Amount, hotspot: Amount }),
  mem_usage: part({ total_vram: Amount, used_vram: Amount, free_vram: Amount }),
});
const Static = z.looseObject({
  gpu: z.number(),
  asic: part({ market_name: Text, asic_serial: Text }),
  bus: part({ bdf: Text }),
  driver: part({ version: Text }),
});

/** Since ROCm 7 the list stands in an object. */
const listOf = <T extends z.ZodType>(item: T) =>
  z.preprocess(
    found => z.looseObject({ gpu_data: z.unknown() }).safeParse(found).data?.gpu_data ?? found,
    z.array(item).max(64),
  );

export async function probeAmdSmi(site: ProbeSite): Promise<Findings> {
  const [metric, fixed] = await Promise.all([
    site.run('amd-smi', ['metric', '--json'], site.signal),
    site.run('amd-smi', ['static', '--json'], site.signal),
  ]);
  return judge('amd-smi', metric, text =>
    parseAmdSmi(text, fixed.kind === 'ok' ? fixed.stdout : '[]', site.now),
  );
}

/** Outputs of `amd-smi metric --json` and `amd-smi static --json`. Throws on anything else. */
export function parseAmdSmi(metric: string, fixed: string, now: number): Card[] {
  const known = listOf(Static).parse(JSON.parse(jsonIn(fixed)));
  return listOf(Metric)
    .parse(JSON.parse(jsonIn(metric)))
    .map(({ gpu, usage, power, temperature, mem_usage: memory }) => {
      const card = known.find(one => one.gpu === gpu);
      const name = card?.asic.market_name ?? 'AMD GPU';
      return cardOf({
        bus: busAddress(card?.bus.bdf),
        uuid: card?.asic.asic_serial ?? null,
        name,
        vendor: 'amd',
        total_bytes: mebibytes(memory.total_vram),
        used_bytes: mebibytes(memory.used_vram),
        free_bytes: mebibytes(memory.free_vram),
        bandwidth_bytes_per_s: bandwidthOf(name),
        driver_version: card?.driver.version ?? null,
        utilization: share(usage.gfx_activity),
        temperature_c: temperature.edge ?? temperature.hotspot,
        power_w: power.socket_power,
        source: 'amd-smi',
        measured_at: now,
      });
    });
}

const ROCM_ARGS = [
  '--showmeminfo',
  'vram',
  '--showproductname',
  '--showbus',
  '--showuniqueid',
  '--showuse',
  '--showtemp',
  '--showpower',
  '--json',
];

export async function probeRocmSmi(site: ProbeSite): Promise<Findings> {
  const answer = await site.run('rocm-smi', ROCM_ARGS, site.signal);
  return judge('rocm-smi', answer, text => parseRocmSmi(text, site.now));
}

/** Output of `rocm-smi … --json`: every value a text under a name of its own. */
export function parseRocmSmi(output: string, now: number): Card[] {
  const said = z
    .record(z.string(), z.record(z.string(), z.unknown()))
    .parse(JSON.parse(jsonIn(output)));
  return Object.entries(said)
    .filter(([key]) => /^card[0-9]+$/.test(key))
    .map(([, fields]) => {
      const text = (...names: readonly string[]) =>
        names.map(name => Text.parse(fields[name])).find(found => found !== null) ?? null;
      const number = (...names: readonly string[]) => {
        const found = text(...names);
        return found !== null && /^[0-9]+(\.[0-9]+)?$/.test(found) ? Number(found) : null;
      };
      const name = text('Card Series', 'Card series', 'Device Name') ?? 'AMD GPU';
      const total = number('VRAM Total Memory (B)');
      const used = number('VRAM Total Used Memory (B)');
      return cardOf({
        bus: busAddress(text('PCI Bus')),
        uuid: text('Unique ID'),
        name,
        vendor: 'amd',
        total_bytes: total,
        used_bytes: used,
        free_bytes: total === null || used === null ? null : Math.max(0, total - used),
        bandwidth_bytes_per_s: bandwidthOf(name),
        utilization: share(number('GPU use (%)')),
        temperature_c: number('Temperature (Sensor edge) (C)'),
        power_w: number(
          'Average Graphics Package Power (W)',
          'Current Socket Graphics Package Power (W)',
        ),
        source: 'rocm-smi',
        measured_at: now,
      });
    });
}

function judge(probe: string, answer: ToolResult, parse: (text: string) => Card[]): Findings {
  if (answer.kind === 'missing') return NOTHING;
  if (answer.kind === 'failed') return { cards: [], problems: [{ probe, reason: answer.reason }] };
  try {
    return { cards: parse(answer.stdout), problems: [] };
  } catch {
    // Not the form of any release: what it said is the best description there is.
    const reason = `unreadable answer: ${firstLine(answer.stdout)}`;
    return { cards: [], problems: [{ probe, reason }] };
  }
}

/** Both print warnings of sleeping cards before the JSON. */
function jsonIn(text: string): string {
  return text.slice(Math.max(0, text.search(/^[^\S\n]*[[{]/m)));
}

const share = (percent: number | null): number | null =>
  percent === null ? null : Math.min(1, percent / 100);
/** D2 */
const mebibytes = (amount: number | null): number | null =>
  amount === null ? null : Math.round(amount * MIB);
