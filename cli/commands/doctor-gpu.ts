/**
 * The GPU checks of `doctor`: is there a card, and can its memory be read?
 *
 * V1: a card that is there and whose memory nobody can read is a failure, not a machine without one:
 *     its node gets no models, and everything else looks healthy.
 * V2: what is declared in the configuration needs no reading.
 * V3: integrated graphics and the displays of servers and emulators are nothing to fail for.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ProgramResult, runProgram } from '../../runtime/run-program.ts';
import { fail, ok, type Verdict, warn } from './doctor-verdict.ts';

const PROGRAM_TIMEOUT_MS = 10_000;
const GIB = 2 ** 30;
const DEVICES_MAX = 4_096;

export interface GpuPatient {
  readonly declared: readonly { readonly name: string; readonly vram_bytes: number }[];
  readonly platform: NodeJS.Platform;
  /** What `/sys`, `/proc` and `/dev` are read under; empty for this machine. */
  readonly root: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface PciCard {
  readonly slot: string;
  readonly vendor: 'nvidia' | 'amd' | 'intel';
}

const VENDORS: Readonly<Record<string, PciCard['vendor']>> = {
  '0x10de': 'nvidia',
  '0x1002': 'amd',
  '0x8086': 'intel',
};

export async function checkGpu(patient: GpuPatient): Promise<Verdict> {
  const { declared, platform } = patient;
  if (declared.length > 0) {
    const cards = declared.map(({ name, vram_bytes }) => `${name} ${gib(vram_bytes)}`);
    return ok(`declared: ${cards.join('; ')}`); // V2
  }
  if (platform === 'darwin') return checkApple(patient);
  const cards = pciCards(patient.root);
  const verdicts = [
    await checkNvidia(patient, cards),
    ...(await Promise.all(
      cards.filter(({ vendor }) => vendor !== 'nvidia').map(card => checkSysfs(patient, card)),
    )),
  ].filter(verdict => verdict !== null);
  return worst(verdicts) ?? ok('none; models run on the CPU');
}

/** The gravest of several, with the words of all. */
function worst(verdicts: readonly Verdict[]): Verdict | null {
  const gravity = ['fail', 'warn', 'ok'] as const;
  const status = gravity.find(one => verdicts.some(verdict => verdict.status === one));
  if (status === undefined) return null;
  const fixes = new Set(verdicts.flatMap(({ fix }) => (fix === null ? [] : [fix])));
  return {
    status,
    detail: verdicts.map(({ detail }) => detail).join('; '),
    fix: fixes.size === 0 ? null : [...fixes].join('; '),
  };
}

async function checkNvidia(
  patient: GpuPatient,
  cards: readonly PciCard[],
): Promise<Verdict | null> {
  const driver = text(patient, '/proc/driver/nvidia/version');
  const version = /Module(?: for \S+)?\s+([0-9.]+)/.exec(driver ?? '')?.[1];
  const present = cards.filter(({ vendor }) => vendor === 'nvidia');
  const query = ['--query-gpu=name,memory.total', '--format=csv,noheader'];
  const answer = await runProgram('nvidia-smi', query, {
    timeoutMs: PROGRAM_TIMEOUT_MS,
    env: patient.env,
  });
  if (answer.failure === null) return readNvidia(patient, answer.stdout, present);
  if (present.length === 0 && driver === null) {
    // A tool without a card or a driver: an image made for GPUs, on a machine without.
    return isMissing(answer) ? null : ok(`no NVIDIA card (nvidia-smi: ${answer.failure})`);
  }
  const what = driver === null ? 'an NVIDIA card without its driver' : 'an NVIDIA driver is loaded';
  const how =
    driver === null
      ? 'install the NVIDIA driver'
      : `install nvidia-smi of driver ${version ?? 'version the same'} (or restart, after an update of it)`;
  return fail(
    `${what}, and its memory cannot be read: nvidia-smi: ${answer.failure}`,
    `${how}, or ${declaration('NVIDIA GPU')}`,
  );
}

const isMissing = (answer: ProgramResult): boolean =>
  answer.exitCode === null && answer.failure === 'not found';

function readNvidia(
  patient: GpuPatient,
  output: string,
  present: readonly PciCard[],
): Verdict | null {
  const lines = output.split('\n').filter(line => line.trim() !== '');
  if (/^no devices were found/i.test(lines[0] ?? '')) {
    return present.length === 0
      ? null
      : fail(
          `the NVIDIA driver does not see ${present.map(({ slot }) => slot).join(', ')}`,
          `see dmesg | grep -i nvrm, or ${declaration('NVIDIA GPU')}`,
        );
  }
  const verdicts = lines.map(line => {
    const [name = '', memory = ''] = line.split(/,\s*(?=[^,]*$)/).map(cell => cell.trim());
    if (/^[0-9]+ MiB$/.test(memory)) return ok(`${name}, ${memory}`);
    if (/^\[?(N\/A|Not Supported)\]?$/i.test(memory)) {
      const total = /^MemTotal:\s+([0-9]+) kB/m.exec(text(patient, '/proc/meminfo') ?? '')?.[1];
      const host = total === undefined ? 'of the host' : gib(Number(total) * 1024);
      return ok(`${name}, unified memory: ${host}`);
    }
    return fail(`${name}: memory ${memory}`, `run it with more rights, or ${declaration(name)}`);
  });
  return worst(verdicts);
}

async function checkSysfs(patient: GpuPatient, { slot, vendor }: PciCard): Promise<Verdict> {
  const device = `/sys/bus/pci/devices/${slot}`;
  const bytes = (file: string) => Number(text(patient, `${device}/${file}`) ?? 0);
  if (vendor === 'intel') {
    if (slot.startsWith('0000:00:02.')) return ok('Intel integrated graphics: not used for models');
    const drm = names(join(patient.root, device, 'drm')).find(name => /^card[0-9]+$/.test(name));
    const files = ['tile0/physical_vram_size_bytes', 'lmem_total_bytes'];
    if (drm !== undefined) files.push(`drm/${drm}/lmem_total_bytes`);
    const total = Math.max(...files.map(bytes));
    if (total > 0) return ok(`Intel ${slot}, ${gib(total)}`);
    if (await works(patient, 'xpu-smi', ['discovery', '-j']))
      return ok(`Intel ${slot}, by xpu-smi`);
    return fail(
      `an Intel card ${slot} is there, and its memory cannot be read`,
      `install xpu-smi, or ${declaration('Intel Arc')}`,
    );
  }
  const total = Math.max(bytes('mem_info_vram_total'), bytes('mem_info_gtt_total'));
  if (total > 0) return ok(`AMD ${slot}, ${gib(total)}`);
  if (await works(patient, 'amd-smi', ['metric', '--json'])) return ok(`AMD ${slot}, by amd-smi`);
  return fail(
    `an AMD card ${slot} is there, and its memory cannot be read`,
    `load its driver (sudo modprobe amdgpu), or ${declaration('AMD GPU')}`,
  );
}

async function works({ env }: GpuPatient, file: string, args: readonly string[]): Promise<boolean> {
  const answer = await runProgram(file, args, { timeoutMs: PROGRAM_TIMEOUT_MS, env });
  return answer.failure === null && /[0-9]{4}/.test(answer.stdout);
}

async function checkApple({ env }: GpuPatient): Promise<Verdict> {
  const answer = await runProgram('sysctl', ['-n', 'hw.memsize'], {
    timeoutMs: PROGRAM_TIMEOUT_MS,
    env,
  });
  const total = Number(answer.stdout.trim());
  if (answer.failure === null && total > 0) return ok(`Apple, unified memory: ${gib(total)}`);
  return warn(
    `sysctl hw.memsize: ${answer.failure ?? answer.stdout.trim()}`,
    declaration('Apple GPU'),
  );
}

/** The very setting that makes up for an unreadable card. */
function declaration(name: string): string {
  const example = JSON.stringify([{ name, vram_bytes: '24GiB' }]);
  return `declare what it has: CODEGOD_NODE_GPUS='${example}' (setting node.gpus)`;
}

/** Display controllers, and AMD's accelerators, of the makers whose cards run models (V3). */
function pciCards(root: string): PciCard[] {
  const folder = join(root, '/sys/bus/pci/devices');
  return names(folder)
    .slice(0, DEVICES_MAX)
    .flatMap(slot => {
      const id = (file: string) => text({ root }, `/sys/bus/pci/devices/${slot}/${file}`) ?? '';
      const vendor = VENDORS[id('vendor')];
      const kind = id('class');
      const isGpu = kind.startsWith('0x03') || (kind.startsWith('0x12') && vendor === 'amd');
      return vendor === undefined || !isGpu ? [] : [{ slot, vendor }];
    });
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return []; // No such bus on this platform.
  }
}

/** Null where the file is absent or unreadable, which is what the checks are about. */
function text({ root }: { readonly root: string }, path: string): string | null {
  try {
    return readFileSync(join(root, path), 'utf8').trim();
  } catch {
    return null;
  }
}

const gib = (bytes: number): string => `${(bytes / GIB).toFixed(1)} GiB`;
