/** The pool in figures, for `GET /metrics`. */
import type { InferUsage } from '../../../protocol/inference.ts';
import type {
  CounterMetric,
  GaugeMetric,
  HistogramMetric,
  Metrics,
} from '../../../runtime/metrics.ts';

const WAIT_BUCKETS_S = [0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600];

export class PoolMetrics {
  readonly #queued: GaugeMetric;
  readonly #waits: HistogramMetric;
  readonly #placements: CounterMetric;
  readonly #retries: CounterMetric;
  readonly #requests: CounterMetric;
  readonly #tokens: CounterMetric;

  constructor(metrics: Metrics) {
    this.#queued = metrics.gauge('codegod_pool_waiting', 'requests that wait for a place');
    this.#waits = metrics.histogram(
      'codegod_pool_wait_seconds',
      'time until a request was placed',
      WAIT_BUCKETS_S,
    );
    this.#placements = metrics.counter('codegod_pool_placements_total', 'places given', [
      'verdict',
    ]);
    this.#retries = metrics.counter('codegod_pool_retries_total', 'tries that came to nothing', [
      'code',
    ]);
    this.#requests = metrics.counter('codegod_pool_requests_total', 'inferences by their end', [
      'outcome',
    ]);
    this.#tokens = metrics.counter('codegod_pool_tokens_total', 'tokens of inferences', ['kind']);
  }

  queued(count: number): void {
    this.#queued.set(count);
  }

  placed(verdict: string, waitedMs: number): void {
    this.#placements.increment({ verdict });
    this.#waits.observe(waitedMs / 1_000);
  }

  retried(code: string): void {
    this.#retries.increment({ code });
  }

  ended(outcome: 'done' | 'failed' | 'cancelled', usage: InferUsage | null): void {
    this.#requests.increment({ outcome });
    if (usage === null) return;
    this.#tokens.increment({ kind: 'prompt' }, usage.prompt_tokens);
    this.#tokens.increment({ kind: 'output' }, usage.output_tokens);
  }
}
