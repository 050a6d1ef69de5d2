/** Which of those that wait starts, and where. Nodes as their adverts show them; time by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeId } from '../protocol/ids.ts';
import { decide, explainWait } from './queue.ts';
import {
  emptyQueue,
  ended,
  entered,
  type Job,
  type QueueOptions,
  type QueueState,
  returned,
} from './queue-state.ts';
import { GIB, type ModelInput, NOW, type NodeInput, nodeView } from './test-nodes.ts';

const OPTIONS: QueueOptions = { age_bound_ms: 30_000, residency_ms: 10_000 };
const card = (free: number, total = 24) => ({ free: free * GIB, total: total * GIB });
const model = (name: string, gibs: number, more: Partial<ModelInput> = {}): ModelInput => ({
  ...{ name, size_bytes: gibs * GIB },
  ...more,
});
/** A loaded copy that was used a while ago. */
const warm = (name: string, gibs: number, more: Partial<ModelInput> = {}): ModelInput =>
  model(name, gibs, { loaded: true, context_tokens: 8_192, used_at: NOW - 60_000, ...more });

const job = (id: string, wanted: string | null, more: Partial<Job> = {}): Job => ({
  ...{ id, share: 's', priority: 0, arrived_at: NOW },
  request: {
    ...{ model: wanted, context_tokens: 8_192, remote: 'deny', avoid: [], refused: {} },
    kind: 'inference',
  },
  ...more,
});
const queue = (jobs: readonly Job[], options: Partial<QueueOptions> = {}): QueueState =>
  jobs.reduce(entered, emptyQueue({ ...OPTIONS, ...options }));
const decided = (state: QueueState, nodes: readonly NodeInput[], now = NOW) =>
  decide(
    state,
    nodes.map(input => nodeView({ seen_at: now, ...input })),
    now,
  );
const startsOf = (state: QueueState, nodes: readonly NodeInput[], now = NOW) =>
  decided(state, nodes, now).starts.map(({ job: { id }, plan }) => `${id}@${plan.node}`);

test('a free slot of a loaded copy is taken at once, and only as many as there are', () => {
  const nodes = [{ id: 'a', gpu: card(18), models: [warm('m:7b', 5, { slots: 2 })] }];
  const { starts, waits, state } = decided(
    queue(['1', '2', '3'].map(id => job(id, 'm:7b'))),
    nodes,
  );
  assert.deepEqual(
    starts.map(start => start.job.id),
    ['1', '2'],
  );
  assert.deepEqual([waits.get('3')?.position, waits.get('3')?.impossible], [0, false]);
  assert.match(waits.get('3')?.reason ?? '', /busy/);
  assert.deepEqual([state.waiting.length, state.running.size], [1, 2]);
});

test('what was decided counts before any advert shows it, and no memory is promised twice', () => {
  const nodes = [{ id: 'a', gpu: card(12), models: [model('x:7b', 7), model('y:7b', 7)] }];
  const first = decided(queue([job('1', 'x:7b')]), nodes);
  assert.equal(first.starts.length, 1);
  const second = decided(entered(first.state, job('2', 'y:7b')), nodes);
  assert.equal(second.starts.length, 0);
  assert.match(second.waits.get('2')?.reason ?? '', /x:7b .*in use/);
});

test('what has ended is free at once, though the advert still shows it at work', () => {
  const idle = [{ id: 'a', gpu: card(18), models: [warm('m:7b', 5)] }];
  const first = decided(queue([job('1', 'm:7b')]), idle);
  // Written while it ran; the same advert is looked at before and after its end.
  const busy = [warm('m:7b', 5, { in_flight: 1 })];
  const view = nodeView({ id: 'a', gpu: card(18), models: busy, seen_at: NOW + 1_000 });
  const at = (state: QueueState, now: number) =>
    decide(state, [view], now).starts.map(start => start.job.id);
  const foreign = emptyQueue(OPTIONS);
  assert.deepEqual(at(entered(foreign, job('0', 'm:7b')), NOW + 1_500), [], 'of somebody else');
  const over = ended(first.state, '1', NOW + 2_000);
  assert.deepEqual(at(entered(over, job('2', 'm:7b')), NOW + 2_000), ['2']);
});

test('a load that is under way is joined rather than started again', () => {
  const nodes = ['a', 'b'].map(id => ({
    id,
    gpu: card(20),
    models: [model('m:7b', 5, { slots: 2 })],
  }));
  const { starts } = decided(queue([job('1', 'm:7b'), job('2', 'm:7b')]), nodes);
  assert.deepEqual(
    starts.map(({ plan }) => [plan.node, plan.load]),
    [
      ['a', true],
      ['a', false],
    ],
  );
});

test('a request for a loaded model does not wait behind the load of another', () => {
  const nodes = [{ id: 'a', gpu: card(14), models: [warm('m:7b', 5), model('x:7b', 7)] }];
  const state = queue([job('load', 'x:7b'), job('ready', 'm:7b')]);
  assert.deepEqual(startsOf(state, nodes), ['load@a', 'ready@a']);
});

test('a model that others wait for stays, until somebody has waited for longer than the bound', () => {
  const models = [warm('m:14b', 18, { in_flight: 1, slots: 1 }), model('x:7b', 9)];
  const nodes = [{ id: 'a', gpu: card(5), models }];
  const idle = [{ id: 'a', gpu: card(5), models: [warm('m:14b', 18), model('x:7b', 9)] }];
  const old = job('x1', 'x:7b', { arrived_at: NOW - 20_000 });
  const busy = decided(queue([old, job('m1', 'm:14b')]), nodes);
  assert.deepEqual(busy.starts, []);
  // The copy becomes idle: the next of its own goes first.
  assert.deepEqual(startsOf(busy.state, idle, NOW + 1_000), ['m1@a']);
  // Overdue: those that came later find the copy closed, then it is evicted.
  const overdue = decided(busy.state, nodes, NOW + 11_000);
  assert.match(overdue.waits.get('m1')?.reason ?? '', /others have waited too long|busy/);
  const swap = decided(overdue.state, idle, NOW + 12_000);
  assert.deepEqual(
    swap.starts.map(({ job: { id }, plan }) => [id, plan.evict]),
    [['x1', ['m:14b']]],
  );
});

test('under overload models take turns of an age bound, not of one request', () => {
  const nodes = [{ id: 'a', gpu: card(5), models: [warm('m:14b', 18), model('x:14b', 18)] }];
  const jobs = Array.from({ length: 8 }, (_, index) =>
    job(`${index}`, index % 2 === 0 ? 'x:14b' : 'm:14b', { arrived_at: NOW - 40_000 }),
  );
  const first = decided(queue(jobs), nodes);
  const [start] = first.starts;
  assert.deepEqual([start?.job.id, start?.plan.evict], ['0', ['m:14b']]);
  // Its load is done and so is the request: the model keeps its turn.
  const turned = [{ id: 'a', gpu: card(5), models: [model('m:14b', 18), warm('x:14b', 18)] }];
  const next = decided(ended(first.state, '0', NOW + 20_000), turned, NOW + 20_000);
  assert.deepEqual(
    next.starts.map(({ job: { id } }) => id),
    ['2'],
  );
});

test('a model that was loaded a moment ago stays for its residency, and somebody is woken then', () => {
  const cold = [
    { id: 'a', gpu: card(23), models: [model('m:14b', 18, { load_ms: 1_000 }), model('x:7b', 9)] },
  ];
  const first = decided(queue([job('1', 'm:14b')]), cold);
  const loaded = [
    {
      id: 'a',
      gpu: card(5),
      models: [warm('m:14b', 18, { used_at: NOW + 2_000 }), model('x:7b', 9)],
    },
  ];
  const state = entered(
    ended(first.state, '1', NOW + 2_000),
    job('2', 'x:7b', { arrived_at: NOW + 2_000 }),
  );
  const early = decided(state, loaded, NOW + 3_000);
  assert.deepEqual(early.starts, []);
  assert.ok(early.wake_at !== null && early.wake_at <= NOW + 11_000);
  assert.deepEqual(startsOf(early.state, loaded, NOW + 11_000), ['2@a']);
});

test('a second copy is loaded where waiting for the first would take longer, if it costs nobody his', () => {
  const first = { id: 'a', gpu: card(18), models: [warm('m:7b', 5, { in_flight: 1 })] };
  const second = { id: 'b', gpu: card(20), models: [model('m:7b', 5, { load_ms: 3_000 })] };
  const jobs = Array.from({ length: 6 }, (_, index) => job(`${index}`, 'm:7b'));
  const { starts } = decided(queue(jobs), [first, second]);
  assert.ok(starts.some(({ plan }) => plan.node === 'b' && plan.load));
  const used = {
    ...second,
    gpu: card(3),
    models: [...second.models, warm('x:14b', 18, { used_at: NOW })],
  };
  assert.deepEqual(decided(queue(jobs), [first, used]).starts, []);
  // The only copy of a model stays for ten times the age bound, unless somebody is overdue.
  const beside = (used_at: number, elsewhere: boolean) => [
    first,
    { ...used, models: [...second.models, warm('x:14b', 18, { used_at })] },
    ...(elsewhere ? [{ id: 'c', gpu: card(0), models: [warm('x:14b', 18, { used_at })] }] : []),
  ];
  const taken = (now: number, nodes: readonly NodeInput[]) =>
    startsOf(queue(jobs), nodes, now).some(start => start.endsWith('@b'));
  assert.equal(taken(NOW, beside(NOW - 60_000, false)), false, 'the last copy');
  assert.equal(taken(NOW, beside(NOW - 400_000, false)), true, 'long unused');
  assert.equal(taken(NOW, beside(NOW - 60_000, true)), true, 'another has it too');
  assert.equal(taken(NOW + 31_000, beside(NOW - 60_000, false)), true, 'overdue');
});

test('shares are served in turn, by weight, however many requests each has', () => {
  const many = Array.from({ length: 40 }, (_, index) =>
    job(`many${index}`, 'm:7b', { share: 'many' }),
  );
  const few = Array.from({ length: 20 }, (_, index) =>
    job(`few${index}`, 'm:7b', { share: 'few', arrived_at: NOW + 1 }),
  );
  const count = (slots: number, options: Partial<QueueOptions>) => {
    const nodes = [{ id: 'a', gpu: card(18), models: [warm('m:7b', 5, { slots })] }];
    const { starts } = decided(queue([...many, ...few], options), nodes, NOW + 2);
    return starts.filter(start => start.job.share === 'few').length;
  };
  // A turn is six requests: within it the order is that of arrival.
  assert.equal(count(6, {}), 0);
  assert.equal(count(12, {}), 6);
  assert.equal(count(24, {}), 12);
  assert.equal(count(18, { weights: { few: 2 } }), 12);
});

test('a higher priority goes first, but not before what has waited for much longer', () => {
  const nodes = [{ id: 'a', gpu: card(18), models: [warm('m:7b', 5)] }];
  const plain = job('plain', 'm:7b');
  assert.deepEqual(startsOf(queue([plain, job('high', 'm:7b', { priority: 10 })]), nodes), [
    'high@a',
  ]);
  // Ten thousand requests of higher priority, served one by one, do not starve the one.
  let state = queue([plain]);
  let served = 0;
  for (let index = 0; index < 500; index += 1) {
    state = entered(state, job(`high${index}`, 'm:7b', { priority: 50 }));
    const decision = decided(state, nodes);
    const [start] = decision.starts;
    assert.ok(start);
    state = ended(decision.state, start.job.id, NOW - 1);
    served += 1;
    if (start.job.id === 'plain') break;
  }
  assert.ok(served < 100, `${served} were let in ahead`);
});

test('a request that no node can ever take says so, one that may be taken later does not', () => {
  const small = { id: 'a', gpu: card(8, 8), models: [model('m:70b', 40)] };
  const wait = (id: string, nodes: readonly NodeInput[]) =>
    decided(queue([job('1', id)]), nodes).waits.get('1');
  assert.equal(wait('m:70b', [small])?.impossible, true);
  assert.equal(wait('absent:7b', [small])?.impossible, true);
  const gone = { id: 'b', gpu: card(80, 80), models: [model('m:70b', 40)], state: 'draining' };
  assert.equal(wait('m:70b', [small, gone])?.impossible, false);
});

test('a node that declined is left alone for a moment, and the request keeps its place', () => {
  const nodes = [{ id: 'a', gpu: card(18), models: [warm('m:7b', 5)] }];
  const first = decided(queue([job('1', 'm:7b'), job('2', 'm:7b')]), nodes);
  const state = returned(first.state, '1', NOW, 'no room after all');
  const again = decided(state, nodes, NOW + 100);
  assert.deepEqual(
    again.starts.map(start => start.job.id),
    ['2'],
  );
  assert.match(again.waits.get('1')?.reason ?? '', /declined: no room after all/);
  assert.ok(again.wake_at !== null && again.wake_at <= NOW + 2_000);
  const later = decided(ended(again.state, '2', NOW + 2_500), nodes, NOW + 2_500);
  assert.equal(later.starts[0]?.job.id, '1');
});

test('a node that is gone takes nothing; its requests go elsewhere at once', () => {
  const node = (id: string) => ({ id, gpu: card(18), models: [warm('m:7b', 5)] });
  const first = decided(queue([job('1', 'm:7b')]), [node('a'), node('b')]);
  assert.equal(first.starts[0]?.plan.node, 'a');
  const lost = returned(first.state, '1', NOW + 16_000, 'the node is gone');
  assert.deepEqual(startsOf(lost, [node('b')], NOW + 16_000), ['1@b']);
});

test('rules want copies: each missing one is loaded once, nothing in use goes for it', () => {
  const policy = {
    ...{ model: 'm:7b', nodes: [], replicas_min: 2, priority: 0, context_tokens: 16_384, at: 0 },
  };
  const node = (id: string, models: ModelInput[], free = 20) => ({ id, gpu: card(free), models });
  const state = queue([], { policies: [policy] });
  const nodes = [
    node('a', [model('m:7b', 5)]),
    node('b', [model('m:7b', 5), warm('x:14b', 20, { in_flight: 1 })], 3),
    node('c', [model('m:7b', 5)]),
  ];
  const first = decided(state, nodes);
  assert.deepEqual(
    first.loads.map(({ plan }) => [plan.node, plan.context_tokens]),
    [
      ['a', 16_384],
      ['c', 16_384],
    ],
  );
  assert.deepEqual(decided(first.state, nodes, NOW + 1_000).loads, []);
});

test('a rule keeps a copy on a node without a card in its main memory', () => {
  const policy = {
    ...{ model: 'm:7b', nodes: [], replicas_min: 1, priority: 0, context_tokens: 8_192, at: 0 },
  };
  const bare = {
    id: 'a',
    ram: { total: 64 * GIB, available: 40 * GIB },
    models: [model('m:7b', 5)],
  };
  const state = queue([], { policies: [policy] });
  const { loads } = decided(state, [bare]);
  assert.deepEqual(
    loads.map(({ plan }) => [plan.node, plan.gpus]),
    [['a', []]],
  );
  // Beside a card that has no room for it, it would lie there for good.
  assert.deepEqual(decided(state, [{ ...bare, gpu: card(2), offload: true }]).loads, []);
});

test('a copy that a rule keeps is not evicted, whoever waits', () => {
  const policy = {
    ...{ model: 'm:14b', nodes: [], replicas_min: 1, priority: 0, context_tokens: 8_192, at: 0 },
  };
  const nodes = [{ id: 'a', gpu: card(5), models: [warm('m:14b', 18), model('x:7b', 9)] }];
  const old = job('1', 'x:7b', { arrived_at: NOW - 90_000 });
  assert.deepEqual(decided(queue([old], { policies: [policy] }), nodes).starts, []);
  assert.equal(decided(queue([old]), nodes).starts.length, 1);
});

test('attempts take slots of their node, inferences slots of the copy', () => {
  const nodes = [{ id: 'a', gpu: card(18), slots: 1, models: [warm('m:7b', 5)] }];
  const attempt = (id: string): Job => {
    const { request, ...rest } = job(id, 'm:7b');
    return { ...rest, request: { ...request, kind: 'attempt' } };
  };
  const state = queue([attempt('a1'), attempt('a2'), job('i1', 'm:7b'), job('i2', 'm:7b')]);
  assert.deepEqual(startsOf(state, nodes), ['a1@a', 'i1@a']);
});

test('entering twice is entering once, ending twice is ending once', () => {
  const once = queue([job('1', 'm:7b')]);
  assert.equal(entered(once, job('1', 'm:7b')), once);
  const nodes = [{ id: 'a', gpu: card(18), models: [warm('m:7b', 5)] }];
  const { state } = decided(once, nodes);
  assert.equal(entered(state, job('1', 'm:7b')), state);
  const over = ended(state, '1', NOW);
  assert.equal(ended(over, '1', NOW), over);
});

test('the order in which nodes are listed does not matter', () => {
  const nodes = ['a', 'b', 'c'].map(id => ({
    id,
    gpu: card(20),
    models: [model('m:7b', 5), model('x:7b', 7)],
  }));
  const jobs = ['m:7b', 'x:7b', 'm:7b', 'x:7b'].map((name, index) => job(`${index}`, name));
  assert.deepEqual(startsOf(queue(jobs), nodes.toReversed()), startsOf(queue(jobs), nodes));
});

test('who waits can be explained in full', () => {
  const nodes = [
    { id: 'a', gpu: card(5), models: [warm('m:14b', 18, { in_flight: 1 }), model('x:7b', 9)] },
  ];
  const { state } = decided(queue([job('1', 'x:7b')]), nodes);
  const decision = explainWait(state, nodes.map(nodeView), NOW, '1');
  assert.equal(decision?.candidates[0]?.node, NodeId.parse('a'));
  assert.match(decision?.would_change ?? '', /unload m:14b on a/);
  assert.equal(explainWait(state, nodes.map(nodeView), NOW, 'none'), null);
});
