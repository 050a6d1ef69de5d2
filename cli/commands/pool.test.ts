/** The commands of the pool against a real bus, a node that answers, and what a master would tell. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, type TestContext, test } from 'node:test';
import { z } from 'zod';
import { CodeGodError } from '../../protocol/errors.ts';
import { NodeId } from '../../protocol/ids.ts';
import { DrainRequest, LoadRequest, PullRequest, UnloadRequest } from '../../protocol/inference.ts';
import { ApiKey, ModelPolicy, policyKey } from '../../protocol/policy.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { nodeSubject } from '../../protocol/subjects.ts';
import type { Bus } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { createMessenger, type Messenger } from '../../runtime/messages.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import { openHome, startFakeMaster } from '../test-world.ts';

const ATTIC = NodeId.parse('attic');
const GIB = 2 ** 30;
let server: NatsFixture;
let bus: Bus;
let node: Messenger;

before(async () => {
  server = await startNats();
  bus = await connectNats({ servers: [server.url], name: 'attic', clock: systemClock });
  node = createMessenger(bus, { source: '/node/attic/actor/worker', clock: systemClock });
  await ensureStores(bus);
});
after(async () => {
  await bus.close();
  await server.stop();
});

const model = (name: string, changes: object = {}) => ({
  name,
  digest: 'sha256:0123456789abcdef',
  size_bytes: 5 * GIB,
  family: 'qwen2',
  parameter_size: '7.6B',
  quantization: 'Q4_K_M',
  context_max: 32_768,
  capabilities: ['completion', 'tools'],
  loaded: false,
  vram_bytes: null,
  ram_bytes: null,
  context_tokens: null,
  ...changes,
});

const LOADED = model('coder:7b', {
  loaded: true,
  state: 'loaded',
  vram_bytes: 3 * GIB,
  ram_bytes: GIB,
  context_tokens: 8_192,
  in_flight: 1,
  slots: 2,
  load_ms: 4_000,
  output_tokens_per_s: 52,
});

const entry = (name: string, models: readonly object[], now = systemClock.now()) => ({
  node: name,
  seen_at: now,
  capacity: {
    cpu: { model: 'x', cores: 8, load: 0.5 },
    ram: { total_bytes: 64 * GIB, available_bytes: 40 * GIB },
    gpus: [
      {
        index: 0,
        name: 'RTX 3090',
        total_bytes: 24 * GIB,
        free_bytes: 18 * GIB,
        foreign_bytes: 2 * GIB,
        utilization: 0,
        temperature_c: 40,
        power_w: null,
      },
    ],
  },
  runtime: {
    state: 'ready',
    engines: [{ name: 'ollama', available: true, models }],
    slots: 2,
    slots_used: 1,
    labels: { room: 'attic' },
  },
});

async function pool(t: TestContext, more: Readonly<Record<string, unknown>> = {}) {
  const home = openHome(t);
  const master = await startFakeMaster(t, {
    '/nodes': { nodes: [entry('attic', [LOADED, model('small:1b')]), entry('nas', [])] },
    '/pool': { waiting: [{ id: 'r-1', reason: 'coder:7b is busy on attic' }] },
    ...more,
  });
  home.pretendRunning({ http: master.url, bus: server.url });
  return home;
}

test('nodes: state, free memory, loaded models first, labels', async t => {
  const { stdout } = await (await pool(t)).run('nodes');
  assert.match(
    stdout,
    /^attic +ready +0 s ago +40\.0 GiB +RTX 3090 18\.0 GiB\/24\.0 GiB +coder:7b\*, small:1b +1\/2 +room=attic$/m,
  );
});

test('a machine that has been silent is called stale', async t => {
  const old = entry('attic', [], systemClock.now() - 60_000);
  const { stdout } = await (await pool(t, { '/nodes': { nodes: [old] } })).run('nodes');
  assert.match(stdout, /^attic +stale +60 s ago/m);
});

test('SLOTS: what is at work, whoever asked for it, of what can be at once', async t => {
  const busy = (node: string, models: readonly object[], leases: readonly object[]) => {
    const { runtime, ...rest } = entry(node, models);
    return { ...rest, runtime: { ...runtime, slots_used: 0, leases } };
  };
  const full = model('coder:7b', { ...LOADED, in_flight: 4, slots: 4 });
  const attempt = { lease: 'l', model: 'scaffold', bytes: 0, expires_at: 0, attempt: 1 };
  const list = [
    busy('clients', [full, model('small:1b')], []),
    busy(
      'tree',
      [],
      [
        { ...attempt, at_work: true },
        { ...attempt, at_work: false },
      ],
    ),
  ];
  const home = await pool(t, { '/nodes': { nodes: list } });
  const { stdout } = await home.run('nodes');
  assert.match(stdout, /^clients .* 4\/4 +room=attic$/m);
  assert.match(stdout, /^tree .* 1\/2 +room=attic$/m);
  const top = (await home.run('top')).stdout;
  assert.match(top, /^clients +ready +4\/4 slots$/m);
});

test('a machine whose Ollama is dead says so and since when; one that went away stays listed', async t => {
  const now = systemClock.now();
  const { runtime, ...rest } = entry('attic', []);
  const engines = [
    { name: 'ollama', available: false, away_since: now - 180_000, models: [model('coder:7b')] },
  ];
  const gone = {
    ...{ node: 'nas', seen_at: now - 600_000 },
    ...{ capacity: null, runtime: null, gateway: null },
  };
  const notes = ['sent 120 reports within a minute that count for nothing'];
  const list = [{ ...rest, runtime: { ...runtime, engines }, notes }, gone];
  const home = await pool(t, { '/nodes': { nodes: list } });
  const { stdout } = await home.run('nodes');
  assert.match(stdout, /^attic +degraded .*ollama away for 3 min; sent 120 reports/m);
  assert.match(stdout, /^nas +gone +10 min ago/m);
  assert.match((await home.run('top')).stdout, /^attic +degraded .*ollama away for 3 min/m);
});

test('ps has the columns of Ollama, and the machine', async t => {
  const home = await pool(t);
  const { stdout } = await home.run('ps');
  assert.match(
    stdout,
    /^coder:7b +0123456789ab +4\.0 GiB +25%\/75% CPU\/GPU +8192 +attic +loaded +1\/2/m,
  );
  const [row] = JSON.parse((await home.run('ps', '--json')).stdout);
  assert.deepEqual([row.name, row.node, row.vram_bytes], ['coder:7b', 'attic', 3 * GIB]);
});

test('models: where each is and how fast; no subcommand lists', async t => {
  const home = await pool(t);
  for (const argv of [['models'], ['models', 'list']]) {
    const { stdout } = await home.run(...argv);
    assert.match(stdout, /^coder:7b .* attic\* +52 tok\/s on attic, loads in 4 s$/m);
    assert.match(stdout, /^small:1b .* attic +not measured$/m);
  }
  const [first] = JSON.parse((await home.run('models', '--json')).stdout);
  assert.equal(first.copies[0].output_tokens_per_s, 52);
});

test('top off a terminal is one picture: machines, cards, models, queue', async t => {
  const home = await pool(t);
  const { stdout } = await home.run('top');
  assert.match(stdout, /^2 machines, 2 ready, 1 at work, 1 waiting/);
  assert.match(
    stdout,
    /\[#####\.{15}\] 6\.0 GiB of 24\.0 GiB +RTX 3090 +0 % +40 °C +\? W +2\.0 GiB by others/,
  );
  assert.match(stdout, /r-1 +coder:7b is busy on attic/);
  assert.equal(JSON.parse((await home.run('top', '--json')).stdout).waiting.length, 1);
});

const DECISION = {
  at: 1,
  chosen: { node: 'attic', engine: 'ollama', model: 'small:1b' },
  reason: 'small:1b on attic: it fits',
  candidates: [
    {
      node: 'attic',
      engine: 'ollama',
      model: 'small:1b',
      verdict: 'fits',
      need_bytes: 2 * GIB,
      free_bytes: 18 * GIB,
      reason: 'needs 2.0 GiB of 18.0 GiB',
      score: {
        wait_ms: 0,
        load_ms: 2_000,
        prefill_ms: 100,
        decode_ms: 1_000,
        evict_ms: 0,
        total_ms: 3_100,
      },
    },
  ],
  need: {
    weights_bytes: GIB,
    kv_bytes: GIB / 2,
    compute_bytes: 0,
    projector_bytes: 0,
    overhead_bytes: GIB / 2,
    source: 'estimate',
  },
  would_change: 'unload coder:7b on attic frees 4.0 GiB',
};

test('explain of a request shows the terms, and last what would change it', async t => {
  const id = `r-${'0'.repeat(26)}`;
  const tried = { at: 1, engine: 'ollama', model: 'small:1b', error: null };
  const refusal = { code: 'reservation_refused', message: 'all slots are taken' };
  const record = {
    ...{ id, at: 1, share: 'local', model: 'small:1b', state: 'done', waited_ms: 1_500 },
    tries: [
      { ...tried, node: 'nas', outcome: 'refused', error: refusal },
      { ...tried, node: 'attic', outcome: 'done' },
    ],
    ...{ decision: DECISION, usage: null, error: null },
  };
  const home = await pool(t, { [`/decisions/${id}`]: record });
  const { stdout } = await home.run('explain', id);
  assert.match(stdout, /small:1b {2}done, waited 1\.5 s\n {4}nas: refused, all slots are taken\n/);
  assert.match(
    stdout,
    /needs weights 1\.0 GiB \+ cache 0\.5 GiB \+ overhead 0\.5 GiB \(estimate\)/,
  );
  assert.match(stdout, /\[3\.1 s: load 2\.0 s, read 0\.1 s, write 1\.0 s\]/);
  assert.equal(
    stdout.trimEnd().split('\n').at(-1),
    'it would change: unload coder:7b on attic frees 4.0 GiB',
  );
});

test('place --dry-run only says where; without it the model is loaded there', async t => {
  const loads: LoadRequest[] = [];
  const served = node.serve(nodeSubject(ATTIC, 'load'), LoadRequest, async request => {
    loads.push(request);
    return { ok: true };
  });
  t.after(() => served.stop());
  const home = await pool(t, { '/place': DECISION });
  const dry = await home.run('place', '--model', 'small', '--ctx', '4096', '--dry-run');
  assert.equal(dry.code, 0);
  assert.match(dry.stdout, /^small:1b on attic: it fits/);
  assert.equal(loads.length, 0);
  assert.equal((await home.run('place', '--model', 'small', '--ctx', '4096')).code, 0);
  assert.deepEqual(loads, [{ model: 'small:1b', context_tokens: 4_096 }]);
  const nowhere = { ...DECISION, chosen: null, reason: 'no node can hold small:1b' };
  const full = await pool(t, { '/place': nowhere });
  assert.equal((await full.run('place', '--model', 'small', '--json')).code, 1);
});

test('drain waits for what is at work, and can be taken back', async t => {
  let left = 2;
  const served = node.serve(nodeSubject(ATTIC, 'drain'), DrainRequest, async ({ drain }) => ({
    draining: drain,
    at_work: Math.max(0, --left),
  }));
  t.after(() => served.stop());
  const home = await pool(t);
  const { stdout, stderr } = await home.run('drain', 'attic', '--wait', '--json');
  assert.match(stderr, /attic: 1 still at work/);
  assert.deepEqual(JSON.parse(stdout), { node: 'attic', draining: true, at_work: 0 });
  assert.match((await home.run('drain', 'attic', '--off')).stdout, /attic is in service/);
  assert.equal((await home.run('drain', 'nowhere')).code, 3);
  assert.equal((await home.run('drain', 'Not A Name')).code, 2);
});

test('models pull tells the progress of each machine and fails where one fails', async t => {
  const served = node.serveStream(nodeSubject(ATTIC, 'pull'), PullRequest, async (request, out) => {
    if (request.model === 'none') throw new CodeGodError('model_missing', 'there is no such model');
    await out.send({ status: 'pulling', total_bytes: 100, completed_bytes: 50 });
    await out.send({ status: 'success' });
  });
  t.after(() => served.stop());
  const home = await pool(t);
  assert.match((await home.run('models', 'pull', 'new:1b')).stderr, /--nodes attic, nas/);
  const good = await home.run('models', 'pull', 'new:1b', '--nodes', 'attic');
  assert.equal(good.code, 0);
  assert.match(good.stderr, /attic: pulling: 50 % of 0\.0 MiB\nattic: success/);
  const asked = await home.run('models', 'pull', 'new:1b', '--nodes', 'attic', '--json');
  const lines = asked.stdout
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line));
  assert.deepEqual(lines.at(-1), { node: 'attic', status: 'success' });
  assert.equal((await home.run('models', 'pull', 'none', '--nodes', 'attic')).code, 1);
  const unknown = await home.run('models', 'pull', 'new:1b', '--nodes', 'attik');
  assert.match(unknown.stderr, /there is no machine attik; did you mean attic\?/);
});

test('models unload asks where it is loaded; a copy at work stays and is said', async t => {
  const served = node.serve(nodeSubject(ATTIC, 'unload'), UnloadRequest, async ({ force }) => {
    if (force !== true) throw new CodeGodError('conflict', 'coder:7b is at work');
    return { ok: true };
  });
  t.after(() => served.stop());
  const home = await pool(t);
  const busy = await home.run('models', 'unload', 'coder:7b');
  assert.deepEqual([busy.code, busy.stdout], [1, 'attic: coder:7b coder:7b is at work\n']);
  assert.equal((await home.run('models', 'unload', 'coder:7b', '--force')).code, 0);
  assert.match((await home.run('models', 'unload', 'small:1b')).stdout, /small:1b is not loaded/);
  assert.match((await home.run('models', 'unload', 'codr:7b')).stderr, /the nearest is coder:7b/);
});

test('models keep changes what is named, leaves the rest, and forgets on --clear', async t => {
  const home = await pool(t);
  const keep = async (...argv: string[]): Promise<ModelPolicy | null> => {
    const { stdout, code } = await home.run('models', 'keep', 'Coder:7B', ...argv, '--json');
    assert.equal(code, 0, stdout);
    return JSON.parse(stdout).policy;
  };
  await keep('--replicas', '2', '--nodes', 'attic,nas');
  const after = await keep('--priority', '10');
  assert.deepEqual(
    [after?.replicas_min, after?.nodes, after?.priority, after?.model],
    [2, ['attic', 'nas'], 10, 'coder:7b'],
  );
  const stored = await bus.kv(BUCKETS.policy.name).get(policyKey('coder:7b'));
  assert.deepEqual(ModelPolicy.parse(JSON.parse(String(Buffer.from(stored?.value ?? [])))), after);
  assert.equal(await keep('--clear'), null);
  assert.equal((await keep('--replicas', '1'))?.priority, 0);
  assert.equal((await home.run('models', 'keep', 'x', '--replicas', '1.5')).code, 2);
});

test('a rule that no machine can keep is told with what each of them lacks, also in the list', async t => {
  const at = (name: string, verdict: string, reason: string) => ({
    ...{ node: name, engine: 'ollama', model: 'coder:7b', verdict, reason },
    ...{ need_bytes: GIB, free_bytes: null },
  });
  const decision = (...candidates: object[]) => ({
    '/place': { at: 0, chosen: null, reason: 'nowhere', candidates },
  });
  const slow = at('attic', 'cpu', 'the cards have 2.0 GiB');
  const home = await pool(t, decision(slow));
  const argv = ['models', 'keep', 'coder:7b', '--replicas', '2'];
  const two = await home.run(...argv, '--json');
  assert.equal(two.code, 0);
  const { policy, unmet } = JSON.parse(two.stdout);
  assert.equal(policy.replicas_min, 2);
  assert.deepEqual([unmet.copies, unmet.wanted], [0, 2]);
  assert.match(two.stderr, /^coder:7b: the rule cannot be kept: no machine can hold it now/);
  assert.match(two.stderr, /^ {2}attic: it fits on no card there, .*the cards have 2\.0 GiB/m);
  assert.match(two.stderr, /^ {2}nas: it does not have coder:7b: `codegod models pull/m);
  const listed = await home.run('models', 'keep');
  assert.match(listed.stdout, /^coder:7b +2 +any machine +0 +0 of 2$/m);
  assert.match(listed.stderr, /^ {2}nas: it does not have coder:7b/m);

  const pinned = await home.run('models', 'keep', 'coder:7b', '--replicas', '0', '--nodes', 'gone');
  assert.match(pinned.stderr, /^ {2}gone: no machine of this name is there$/m);
  const good = await pool(t, decision(at('attic', 'loaded', 'it is loaded')));
  const one = await good.run(...argv.slice(0, 3), '--replicas', '1', '--nodes', 'attic');
  assert.deepEqual([one.code, one.stderr], [0, '']);
  assert.match((await good.run('models', 'keep')).stdout, /^coder:7b +1 +attic +0 +ok$/m);
  assert.equal((await good.run('models', 'keep', '--replicas', '1')).code, 2);
  await good.run('models', 'keep', 'coder:7b', '--clear');
});

test('a key is shown once; the bus keeps its hash; revoking removes it', async t => {
  const home = await pool(t);
  const made = JSON.parse(
    (await home.run('key', 'create', 'webui', '--in-flight', '4', '--expires', '30d', '--json'))
      .stdout,
  );
  const bucket = bus.kv(BUCKETS.key.name);
  const text = String(Buffer.from((await bucket.get(made.id))?.value ?? []));
  const key = ApiKey.parse(JSON.parse(text));
  assert.equal(key.sha256, createHash('sha256').update(made.key).digest('hex'));
  assert.ok(!text.includes(made.key));
  assert.equal(key.in_flight_max, 4);
  const listed = z
    .array(z.looseObject({ id: z.string() }))
    .parse(JSON.parse((await home.run('key', 'list', '--json')).stdout));
  assert.deepEqual(
    listed.map(one => [one.id, 'sha256' in one]),
    [[made.id, false]],
  );
  assert.equal((await home.run('key', 'revoke', 'webui')).code, 0);
  assert.equal(await bucket.get(made.id), null);
  assert.equal((await home.run('key', 'revoke', 'webui')).code, 1);
  assert.equal((await home.run('key', 'create', 'x', '--expires', 'yesterday')).code, 2);
});
