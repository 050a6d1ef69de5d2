/**
 * The GPU of a Mac: names once from `system_profiler`, the budget from `sysctl`, use from `ioreg`.
 *
 * P1: it shares main memory, of which the system lets it have a part: `iogpu.wired_limit_mb` where
 *     that is set, else what Metal recommends (two thirds, three quarters above 36 GiB; newer
 *     systems allow more, and then this is on the safe side).
 * P2: a Mac with an Intel processor runs no models on its cards: they are shown, without memory.
 */
import { z } from 'zod';
import { type Card, cardOf, type Findings, NOTHING, type Problem } from '../card.ts';
import { bandwidthOf } from './bandwidth.ts';
import type { HostMemory, Probe, ProbeSite } from './site.ts';

const MIB = 1024 * 1024;
const LARGE_BYTES = 36 * 1024 ** 3;

const Displays = z.looseObject({
  SPDisplaysDataType: z
    .array(
      z.looseObject({
        _name: z.string().optional(),
        sppci_model: z.string().optional(),
        spdisplays_vendor: z.string().optional(),
      }),
    )
    .max(16),
});

export interface MacGpu {
  readonly name: string;
  readonly isApple: boolean;
}

/** Remembers the names: `system_profiler` takes seconds, and they do not change. */
export function appleProbe(): Probe {
  let gpus: readonly MacGpu[] | null = null;
  return async site => {
    const problems: Problem[] = [];
    if (gpus === null) {
      const args = ['-json', 'SPDisplaysDataType'];
      const answer = await site.run('system_profiler', args, site.signal);
      if (answer.kind === 'missing') return NOTHING;
      gpus = answer.kind === 'ok' ? parseDisplays(answer.stdout) : null;
      if (gpus === null) {
        problems.push({ probe: 'system_profiler', reason: 'could not name the GPU' });
      }
    }
    const named = gpus ?? [{ name: 'Apple GPU', isApple: true }];
    const cards: Card[] = [];
    for (const gpu of named) cards.push(await measure(site, gpu, problems));
    return { cards, problems } satisfies Findings;
  };
}

async function measure(site: ProbeSite, gpu: MacGpu, problems: Problem[]): Promise<Card> {
  const { name } = gpu;
  const bare = { name, vendor: gpu.isApple ? 'apple' : 'other', measured_at: site.now } as const;
  if (!gpu.isApple) return cardOf({ ...bare, source: 'system_profiler' }); // P2
  const [limits, registry] = await Promise.all([
    site.run('sysctl', ['hw.memsize', 'iogpu.wired_limit_mb'], site.signal),
    site.run('ioreg', ['-r', '-d', '1', '-w', '0', '-c', 'IOAccelerator'], site.signal),
  ]);
  // It fails for a name it does not know, and still answers the other.
  const budget = parseSysctl(limits.kind === 'missing' ? '' : limits.stdout, site.host);
  if (limits.kind !== 'ok' && budget.source === 'host') {
    problems.push({ probe: 'sysctl', reason: 'could not read how much memory the GPU may have' });
  }
  const use = parseRegistry(registry.kind === 'ok' ? registry.stdout : '');
  const own = budget.bytes - (use.allocated_bytes ?? 0);
  return cardOf({
    ...bare,
    total_bytes: budget.bytes,
    used_bytes: use.allocated_bytes,
    free_bytes: Math.max(0, Math.min(own, site.host.available_bytes)),
    unified: true,
    integrated: true,
    bandwidth_bytes_per_s: bandwidthOf(name),
    utilization: use.utilization,
    source: budget.source,
  });
}

/** Null where it is not what `system_profiler -json SPDisplaysDataType` prints. */
export function parseDisplays(output: string): MacGpu[] | null {
  let said: unknown;
  try {
    said = JSON.parse(output);
  } catch {
    return null; // The caller says that the GPU could not be named.
  }
  const displays = Displays.safeParse(said);
  if (!displays.success) return null;
  return displays.data.SPDisplaysDataType.map(gpu => ({
    name: gpu.sppci_model ?? gpu._name ?? 'GPU',
    isApple: /apple/i.test(`${gpu.spdisplays_vendor} ${gpu.sppci_model ?? gpu._name}`),
  }));
}

/** P1; without an answer, the share of the memory that the system reports. */
export function parseSysctl(
  output: string,
  host: HostMemory,
): { readonly bytes: number; readonly source: 'sysctl' | 'host' } {
  const total = number(/^hw\.memsize: ([0-9]+)$/m.exec(output)?.[1]);
  const limit = number(/^iogpu\.wired_limit_mb: ([0-9]+)$/m.exec(output)?.[1]);
  const whole = total ?? host.total_bytes;
  const share = Math.floor(whole * (whole > LARGE_BYTES ? 3 / 4 : 2 / 3));
  const isSet = limit !== null && limit > 0;
  return {
    bytes: isSet ? Math.min(limit * MIB, whole) : share,
    source: total === null ? 'host' : 'sysctl',
  };
}

/** `"PerformanceStatistics" = {"Alloc system memory"=1610612736,"Device Utilization %"=6,…}` */
export function parseRegistry(output: string): {
  readonly allocated_bytes: number | null;
  readonly utilization: number | null;
} {
  const percent = number(/"Device Utilization %"=([0-9]+)/.exec(output)?.[1]);
  return {
    // What a loaded model holds; "In use" falls to nothing whenever the GPU rests.
    allocated_bytes: number(/"Alloc system memory"=([0-9]+)/.exec(output)?.[1]),
    utilization: percent === null ? null : Math.min(1, percent / 100),
  };
}

const number = (text: string | undefined): number | null =>
  text === undefined ? null : Number(text);
