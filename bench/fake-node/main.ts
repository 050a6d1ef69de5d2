/**
 * A fake node as a program.
 *
 *   node --import tsx bench/fake-node/main.ts --port 11501 --vram 24GiB \
 *     --model 'chat:8b,size=5GiB,load=3s,prefill=2000,decode=60,tokens=40' --model 'small:1b,size=1GiB'
 *
 * --vram SIZE (each adds a card) --foreign SIZE --ram SIZE --model SPEC … --registry SPEC …
 * --recovery TIME --time-scale N --seed N --ollama-version V --host ADDRESS --smi DIRECTORY
 *
 * OLLAMA_NUM_PARALLEL, OLLAMA_MAX_QUEUE, OLLAMA_MAX_LOADED_MODELS, OLLAMA_KEEP_ALIVE,
 * OLLAMA_CONTEXT_LENGTH and OLLAMA_KV_CACHE_TYPE are read from the environment.
 */
import { parseArgs } from 'node:util';
import { parseModel } from './fake-model.ts';
import { startFakeNode } from './fake-node.ts';
import { writeNvidiaSmi } from './nvidia-smi.ts';
import { parseBytes, parseMs } from './sizes.ts';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '11434' },
    host: { type: 'string', default: '127.0.0.1' },
    vram: { type: 'string', multiple: true, default: [] },
    foreign: { type: 'string', default: '0' },
    ram: { type: 'string', default: '64GiB' },
    model: { type: 'string', multiple: true, default: ['chat:8b'] },
    registry: { type: 'string', multiple: true, default: [] },
    recovery: { type: 'string', default: '0' },
    'time-scale': { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    'ollama-version': { type: 'string' },
    smi: { type: 'string' },
  },
});
const foreignBytes = parseBytes(values.foreign);
const version = values['ollama-version'];
const node = await startFakeNode({
  port: Number(values.port),
  host: values.host,
  cards: values.vram.map(size => ({ totalBytes: parseBytes(size), foreignBytes })),
  ramBytes: parseBytes(values.ram),
  models: values.model.map(parseModel),
  registry: values.registry.map(parseModel),
  env: process.env,
  recoveryMs: parseMs(values.recovery),
  timeScale: Number(values['time-scale']),
  seed: Number(values.seed),
  ...(version === undefined ? {} : { version }),
  onDie: () => process.exit(137),
});
if (values.smi !== undefined) writeNvidiaSmi(values.smi, node.url);
process.stdout.write(`${node.url}\n`);
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void node.stop());
}
