/**
 * Routers side by side before the same engines, in one run.
 *
 *   node --import tsx bench/router/main.ts [--rounds 5] [--seconds 2] [--trace-rounds 5] [--only a,b]
 *     [--olla PROGRAM] [--llama-swap PROGRAM] [--litellm PROGRAM] [--portkey DIRECTORY] [--json]
 *
 * Contestants that are not given are named and left out. Run it on the compiled form for figures
 * (`node dist/bench/router/main.js`): the processes it starts run as it runs itself.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import {
  BIG,
  runTrace,
  TRACE_MODELS,
  TRACE_NODES,
  TRACE_PARALLEL,
  type TraceResult,
} from './agent-trace.ts';
import { startEngine } from './engine.ts';
import { measurePassThrough, type PassThrough } from './pass-through.ts';
import { type Door, type Peer, peers, type RunningPeer } from './peers.ts';

const GIB = 2 ** 30;
const CHAT = 'chat:8b';
const PARALLEL = 32;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '2' },
    'trace-rounds': { type: 'string', default: '5' },
    only: { type: 'string' },
    olla: { type: 'string' },
    'llama-swap': { type: 'string' },
    litellm: { type: 'string' },
    portkey: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});

const wanted = values.only?.split(',');
const contestants = peers({ ...values, llamaSwap: values['llama-swap'] }).filter(
  ({ name }) => wanted === undefined || name === 'direct' || wanted.includes(name),
);
const missing = contestants.flatMap(peer => {
  const reason = peer.missing();
  return reason === null ? [] : [{ peer: peer.name, reason }];
});
const present = contestants.filter(peer => peer.missing() === null);

const passed = await passThrough();
const traced = await trace();
if (values.json) {
  process.stdout.write(`${JSON.stringify({ passed, traced, missing, load: loadavg() })}\n`);
} else {
  process.stdout.write(report());
}

async function passThrough(): Promise<PassThrough[]> {
  const engine = await startEngine({
    name: 'a',
    vramBytes: 24 * GIB,
    models: [`${CHAT},size=4GiB,kv=16KiB`],
    parallel: PARALLEL,
  });
  const running: { peer: Peer; instance: RunningPeer }[] = [];
  try {
    for (const peer of present) running.push({ peer, instance: await peer.start([engine]) });
    return await measurePassThrough(running, {
      model: CHAT,
      rounds: Number(values.rounds),
      seconds: Number(values.seconds),
    });
  } finally {
    for (const { instance } of running) await instance.stop();
    await engine.stop();
  }
}

async function trace(): Promise<Record<string, TraceResult>> {
  const rounds = Number(values['trace-rounds']);
  const results: Record<string, TraceResult> = {};
  const engines = await Promise.all(
    TRACE_NODES.map(node =>
      startEngine({ ...node, models: TRACE_MODELS, parallel: TRACE_PARALLEL }),
    ),
  );
  const [large, little] = engines;
  if (large === undefined || little === undefined) throw new Error('the trace needs two nodes');
  const byHand = (model: string): Door => ({
    host: '127.0.0.1',
    port: model === BIG ? large.port : little.port,
    path: '/api/chat',
    headers: { 'content-type': 'application/json' },
  });
  try {
    results['by hand'] = await runTrace(engines, byHand, rounds);
    for (const peer of present.filter(({ routes }) => routes)) {
      const instance = await peer.start(engines);
      try {
        results[peer.name] = await runTrace(engines, () => instance.door, rounds);
      } finally {
        await instance.stop();
      }
    }
    return results;
  } finally {
    await Promise.all(engines.map(engine => engine.stop()));
  }
}

function report(): string {
  const ms = (value: number): string => `${value >= 0 ? '+' : ''}${value.toFixed(2)} ms`;
  const lines = [
    'added to a streamed request (1 in flight), and requests per second (16 in flight)',
    ...passed.map(row =>
      [
        row.peer.padEnd(16),
        `p50 ${ms(row.added_p50_ms)}`.padEnd(16),
        `p99 ${ms(row.added_p99_ms)}`.padEnd(16),
        `first byte ${ms(row.added_first_p50_ms)}`.padEnd(24),
        `${Math.round(row.per_second)}/s`.padEnd(10),
        row.failed === 0 ? '' : `${row.failed} failed: ${row.errors.join('; ')}`,
      ].join('  '),
    ),
    '',
    `agent trace over two nodes, ${values['trace-rounds']} rounds`,
    ...Object.entries(traced).map(([name, row]) => {
      const ratio = row.makespan_ms / (traced['by hand']?.makespan_ms ?? Number.NaN);
      const failed = row.failed === 0 ? '' : `  ${row.failed} failed: ${row.errors.join('; ')}`;
      return `${name.padEnd(16)}  ${(row.makespan_ms / 1_000).toFixed(2)} s  ${ratio.toFixed(2)} × by hand  ${row.loads} loads${failed}`;
    }),
    '',
    ...missing.map(({ peer, reason }) => `${peer} left out: ${reason}`),
    `load average ${loadavg()
      .map(value => value.toFixed(1))
      .join(' ')}`,
  ];
  return `${lines.join('\n')}\n`;
}
