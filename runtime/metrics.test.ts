/** The registry as a scraper sees it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics } from './metrics.ts';

test('metrics are told in the Prometheus text format, under the actor, with the process figures', async () => {
  const metrics = createMetrics('master');
  metrics
    .counter('codegod_tasks_total', 'Tasks ended.', ['outcome'])
    .increment({ outcome: 'done' });
  metrics.gauge('codegod_builds_active', 'Builds at work.').set(3);
  metrics.histogram('codegod_placement_seconds', 'Placing.', [0.1, 1]).observe(0.5);
  const text = await metrics.text();
  assert.match(text, /^codegod_tasks_total\{outcome="done",actor="master"\} 1$/m);
  assert.match(text, /^codegod_builds_active\{actor="master"\} 3$/m);
  assert.match(text, /^codegod_placement_seconds_bucket\{le="1",actor="master"\} 1$/m);
  assert.match(text, /^process_resident_memory_bytes\{actor="master"\} [0-9]+$/m);
  assert.match(text, /^nodejs_eventloop_lag_seconds\{actor="master"\} /m);
});

test('asking again for a name gives the same metric; another kind under it is a mistake', async () => {
  const metrics = createMetrics('worker');
  for (let times = 0; times < 2; times++) metrics.counter('codegod_x_total', 'X.').increment();
  assert.match(await metrics.text(), /^codegod_x_total\{actor="worker"\} 2$/m);
  assert.throws(() => metrics.gauge('codegod_x_total', 'X.'), /exists as another kind/);
});

test('two registries in one process do not meet', async () => {
  createMetrics('a').counter('codegod_y_total', 'Y.').increment();
  assert.doesNotMatch(await createMetrics('b').text(), /codegod_y_total/);
});
