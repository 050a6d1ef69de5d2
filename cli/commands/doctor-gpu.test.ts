/** The GPU checks, on machines made of files, with search paths that hold only what is put there. */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { checkGpu } from './doctor-gpu.ts';
import type { Verdict } from './doctor-verdict.ts';

const roots: string[] = [];
after(() => Promise.all(roots.map(root => rm(root, { recursive: true, force: true }))));

interface Machine {
  readonly files?: Readonly<Record<string, string>>;
  readonly tools?: Readonly<Record<string, string>>;
  readonly declared?: readonly { readonly name: string; readonly vram_bytes: number }[];
  readonly platform?: NodeJS.Platform;
}

async function check({ files = {}, tools = {}, declared = [], platform = 'linux' }: Machine) {
  const root = await mkdtemp(join(tmpdir(), 'codegod-doctor-'));
  roots.push(root);
  await mkdir(join(root, 'bin'));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), `${content}\n`);
  }
  for (const [name, script] of Object.entries(tools)) {
    await writeFile(join(root, 'bin', name), `#!/bin/sh\n${script}\n`);
    await chmod(join(root, 'bin', name), 0o755);
  }
  return checkGpu({ declared, platform, root, env: { PATH: join(root, 'bin') } });
}

const pci = (slot: string, vendor: string, kind = '0x030000', more: Record<string, string> = {}) =>
  Object.fromEntries(
    Object.entries({ vendor, class: kind, ...more }).map(([file, content]) => [
      `sys/bus/pci/devices/${slot}/${file}`,
      content,
    ]),
  );
const DRIVER = {
  'proc/driver/nvidia/version':
    'NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.153.02  Tue May 13 16:34:58 UTC 2025',
};
const NVIDIA = pci('0000:01:00.0', '0x10de');

function assertVerdict(verdict: Verdict, status: Verdict['status'], detail: RegExp, fix?: RegExp) {
  assert.equal(verdict.status, status, JSON.stringify(verdict));
  assert.match(verdict.detail, detail);
  if (fix === undefined) assert.equal(verdict.fix, null);
  else assert.match(verdict.fix ?? '', fix);
}

test('no card at all is fine, and so are the displays of servers and processors', async () => {
  assertVerdict(await check({}), 'ok', /none; models run on the CPU/);
  const files = { ...pci('0000:02:00.0', '0x1a03'), ...pci('0000:00:02.0', '0x8086') };
  assertVerdict(await check({ files }), 'ok', /integrated graphics: not used/);
  const tools = { 'nvidia-smi': 'echo "NVIDIA-SMI has failed"; exit 9' };
  assertVerdict(await check({ tools }), 'ok', /no NVIDIA card/);
});

test('cards whose memory is readable are named with it', async () => {
  const tools = { 'nvidia-smi': 'echo "NVIDIA GeForce RTX 3090, 24576 MiB"' };
  const files = {
    ...NVIDIA,
    ...DRIVER,
    ...pci('0000:03:00.0', '0x1002', '0x030000', { mem_info_vram_total: '17163091968' }),
  };
  assertVerdict(
    await check({ files, tools }),
    'ok',
    /RTX 3090, 24576 MiB; AMD 0000:03:00.0, 16\.0/,
  );
});

test('unified memory counts as readable: it is that of the host', async () => {
  const tools = { 'nvidia-smi': 'echo "NVIDIA GB10, [N/A]"' };
  const files = { ...NVIDIA, ...DRIVER, 'proc/meminfo': 'MemTotal:       125489504 kB' };
  assertVerdict(await check({ files, tools }), 'ok', /GB10, unified memory: 119\.7 GiB/);
});

test('a driver without readable memory fails, with the very setting that helps', async () => {
  const files = { ...NVIDIA, ...DRIVER };
  const setting = /CODEGOD_NODE_GPUS='\[\{"name":".+","vram_bytes":"24GiB"\}\]'/;
  const missing = await check({ files });
  assertVerdict(missing, 'fail', /driver is loaded.*nvidia-smi: not found/, setting);
  assert.match(missing.fix ?? '', /nvidia-smi of driver 570\.153\.02/);
  const mismatch = {
    'nvidia-smi': 'echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18',
  };
  assertVerdict(await check({ files, tools: mismatch }), 'fail', /version mismatch/, setting);
  const refused = { 'nvidia-smi': 'echo "NVIDIA A100, [Insufficient Permissions]"' };
  assertVerdict(await check({ files, tools: refused }), 'fail', /Insufficient/, setting);
  const unseen = { 'nvidia-smi': 'echo "No devices were found"' };
  assertVerdict(
    await check({ files, tools: unseen }),
    'fail',
    /does not see 0000:01:00\.0/,
    setting,
  );
});

test('a card without its driver fails too', async () => {
  assertVerdict(await check({ files: NVIDIA }), 'fail', /without its driver/, /install the NVIDIA/);
  const amd = pci('0000:03:00.0', '0x1002');
  assertVerdict(await check({ files: amd }), 'fail', /AMD card/, /modprobe amdgpu.*NODE_GPUS/);
  const arc = pci('0000:04:00.0', '0x8086');
  assertVerdict(await check({ files: arc }), 'fail', /Intel card/, /xpu-smi.*NODE_GPUS/);
  const tools = {
    'xpu-smi': `echo '{"device_list":[{"pci_device_id":"0x56a0","device_id":1000}]}'`,
  };
  assertVerdict(await check({ files: arc, tools }), 'ok', /by xpu-smi/);
});

test('what is declared needs no reading', async () => {
  const declared = [{ name: 'RTX 3090', vram_bytes: 24 * 2 ** 30 }];
  assertVerdict(await check({ files: NVIDIA, declared }), 'ok', /declared: RTX 3090 24\.0 GiB/);
});

test('a Mac is asked for its memory', async () => {
  const tools = { sysctl: 'echo 68719476736' };
  assertVerdict(await check({ platform: 'darwin', tools }), 'ok', /unified memory: 64\.0 GiB/);
  assertVerdict(await check({ platform: 'darwin' }), 'warn', /not found/, /NODE_GPUS/);
});
