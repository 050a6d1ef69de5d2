/**
 * NVIDIA cards through `nvidia-smi`.
 *
 * N1: a field that is empty, `[N/A]`, `[Insufficient Permissions]` or anything but a number is
 *     unknown (null), never 0.
 * N2: a card whose memory is `[N/A]` or `[Not Supported]` has none of its own (GB10, Jetson): its
 *     figures are those of the host's memory, and it is `unified`. One that may not be asked is not.
 * N3: a driver that does not know a field is asked again without it, and never for it again.
 * N4: one lost card does not hide the others: lines that make sense count, the rest is a problem.
 */
import { join } from 'node:path';
import { busAddress, type Card, cardOf, type Findings, NOTHING, type Problem } from '../card.ts';
import { bandwidthOf } from './bandwidth.ts';
import { probeJetson } from './jetson.ts';
import { withSlices } from './nvidia-mig.ts';
import { parseProcesses, processQuery } from './nvidia-processes.ts';
import { seesAllProcesses, withProcesses } from './runtime-process.ts';
import type { HostMemory, Probe, ProbeSite } from './site.ts';
import { firstLine, type ToolResult } from './tool.ts';

const FIELDS = [
  'index',
  'uuid',
  'name',
  'memory.total',
  'memory.used',
  'memory.free',
  'utilization.gpu',
  'temperature.gpu',
  'power.draw',
  'pci.bus_id',
  'driver_version',
  'mig.mode.current',
] as const;
type Field = (typeof FIELDS)[number];
/** Without these a line says nothing. */
const NEEDED: readonly Field[] = ['index', 'name', 'memory.total'];

const MIB = 1024 * 1024;
/** Where Windows keeps it inside WSL, often outside the search path. */
const WSL = '/usr/lib/wsl/lib/nvidia-smi';
const PROBE = 'nvidia-smi';

/** Remembers which fields this machine's driver does not know. */
export function nvidiaProbe(): Probe {
  let fields: readonly Field[] = FIELDS;
  return async site => {
    const [command, answer] = await query(site, fields, known => {
      fields = known;
    });
    if (answer.kind === 'missing') return probeJetson(site);
    const said = parseNvidia(answer.stdout, fields, site.host, site.now);
    if (said.cards.length === 0) {
      if (/^no devices were found/im.test(answer.stdout)) return NOTHING;
      const reason = answer.kind === 'failed' ? answer.reason : (said.problem ?? 'said nothing');
      return { cards: [], problems: [{ probe: PROBE, reason }] };
    }
    const problem = answer.kind === 'failed' ? answer.reason : said.problem;
    const problems = problem === null ? [] : [{ probe: PROBE, reason: problem }];
    return withDetails(site, command, said.cards, problems);
  };
}

/** Asks for `fields`, fewer where the driver is too old for some (N3). */
async function query(
  site: ProbeSite,
  fields: readonly Field[],
  learn: (fields: readonly Field[]) => void,
): Promise<readonly [string, ToolResult]> {
  let command = PROBE;
  let asked = fields;
  for (;;) {
    const args = [`--query-gpu=${asked.join(',')}`, '--format=csv,noheader,nounits'];
    const answer = await site.run(command, args, site.signal);
    if (answer.kind === 'missing' && command === PROBE) {
      command = join(site.root, WSL);
      continue;
    }
    const refused = answer.kind === 'failed' ? refusedField(answer) : null;
    const fewer = asked.filter(field => field !== refused || NEEDED.includes(field));
    if (fewer.length === asked.length) return [command, answer];
    asked = fewer;
    learn(fewer);
  }
}

function refusedField({ reason, stdout }: { reason: string; stdout: string }): string | null {
  return /Field "([^"]+)" is not a valid field/i.exec(`${stdout}\n${reason}`)?.[1] ?? null;
}

export interface NvidiaCard {
  readonly card: Card;
  /** Cut into slices, of which only the slices can be used. */
  readonly isSliced: boolean;
}

/** The lines of `nvidia-smi --query-gpu` (MiB, percent, °C, W) for the fields that were asked. */
export function parseNvidia(
  output: string,
  fields: readonly string[],
  host: HostMemory,
  now: number,
): { readonly cards: readonly NvidiaCard[]; readonly problem: string | null } {
  const cards: NvidiaCard[] = [];
  let problem: string | null = null;
  for (const line of output.split('\n').filter(text => text.trim() !== '')) {
    const cells = line.split(',').map(cell => cell.trim());
    const cell = (field: Field) => cells[fields.indexOf(field)];
    if (cells.length !== fields.length || figure(cell('index')) === null || !cell('name')) {
      problem ??= firstLine(line); // N4
      continue;
    }
    cards.push({
      card: parseCard(cell, host, now),
      isSliced: cell('mig.mode.current') === 'Enabled',
    });
  }
  return { cards, problem };
}

function parseCard(
  cell: (field: Field) => string | undefined,
  host: HostMemory,
  now: number,
): Card {
  const name = cell('name') ?? '';
  const unified = /^\[?(N\/A|Not Supported)\]?$/i.test(cell('memory.total') ?? ''); // N2
  const utilization = figure(cell('utilization.gpu'));
  return cardOf({
    bus: busAddress(cell('pci.bus_id')),
    uuid: text(cell('uuid')),
    name,
    vendor: 'nvidia',
    ...(unified
      ? {
          total_bytes: host.total_bytes,
          used_bytes: host.total_bytes - host.available_bytes,
          free_bytes: host.available_bytes,
        }
      : {
          total_bytes: mebibytes(cell('memory.total')),
          used_bytes: mebibytes(cell('memory.used')),
          free_bytes: mebibytes(cell('memory.free')),
        }),
    unified,
    integrated: unified,
    bandwidth_bytes_per_s: bandwidthOf(name),
    driver_version: text(cell('driver_version')),
    utilization: utilization === null ? null : Math.min(1, utilization / 100),
    temperature_c: figure(cell('temperature.gpu')),
    power_w: figure(cell('power.draw')),
    source: PROBE,
    measured_at: now,
  });
}

async function withDetails(
  site: ProbeSite,
  command: string,
  found: readonly NvidiaCard[],
  problems: readonly Problem[],
): Promise<Findings> {
  const ask = (args: readonly string[]) => site.run(command, args, site.signal);
  const [used, areAll, slices] = await Promise.all([
    ask(processQuery),
    seesAllProcesses(site.root),
    found.some(({ isSliced }) => isSliced) ? Promise.all([ask(['-L']), ask(['-q', '-x'])]) : null,
  ]);
  const processes = used.kind === 'ok' ? parseProcesses(used.stdout) : null;
  const whole = found
    .filter(({ isSliced }) => !isSliced)
    .map(({ card }) =>
      withProcesses(
        card,
        processes?.filter(({ uuid }) => uuid === card.uuid).map(({ process }) => process) ?? [],
        areAll && processes !== null,
      ),
    );
  if (slices === null) return { cards: whole, problems };
  const parents = found.filter(({ isSliced }) => isSliced).map(({ card }) => card);
  const [list, details] = slices;
  const cut = withSlices(
    parents,
    list.kind === 'ok' ? list.stdout : '',
    details.kind === 'ok' ? details.stdout : '',
    areAll,
  );
  return { cards: [...whole, ...cut.cards], problems: [...problems, ...cut.problems] };
}

function text(cell: string | undefined): string | null {
  return cell === undefined || cell === '' || cell.startsWith('[') ? null : cell;
}

/** N1 */
function figure(cell: string | undefined): number | null {
  return cell !== undefined && /^[0-9]+(\.[0-9]+)?$/.test(cell) ? Number(cell) : null;
}

function mebibytes(cell: string | undefined): number | null {
  const value = figure(cell);
  return value === null ? null : Math.round(value * MIB);
}
