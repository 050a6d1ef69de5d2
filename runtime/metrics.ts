/**
 * Metrics of one process in the Prometheus text format. Names are `codegod_<what>_<unit>`; the label
 * `actor` is on all of them. Memory, event-loop delay and the like come with every registry.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

export type Labels = Readonly<Record<string, string>>;

export interface CounterMetric {
  increment(labels?: Labels, by?: number): void;
}

export interface GaugeMetric {
  set(value: number, labels?: Labels): void;
}

export interface HistogramMetric {
  observe(value: number, labels?: Labels): void;
}

export interface Metrics {
  readonly contentType: string;
  /** Asking again for a name gives the same metric. Label values must come from a small set. */
  counter(name: string, help: string, labels?: readonly string[]): CounterMetric;
  gauge(name: string, help: string, labels?: readonly string[]): GaugeMetric;
  /** `buckets` are upper bounds, ascending. */
  histogram(
    name: string,
    help: string,
    buckets: readonly number[],
    labels?: readonly string[],
  ): HistogramMetric;
  /** Everything, as `GET /metrics` shows it. */
  text(): Promise<string>;
}

export function createMetrics(actor: string): Metrics {
  const registry = new Registry();
  registry.setDefaultLabels({ actor });
  collectDefaultMetrics({ register: registry });
  return new PrometheusMetrics(registry);
}

class PrometheusMetrics implements Metrics {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  counter(name: string, help: string, labels: readonly string[] = []): CounterMetric {
    const counter =
      this.#existing(name, Counter) ?? new Counter(this.#settings(name, help, labels));
    return { increment: (values = {}, by = 1) => counter.inc({ ...values }, by) };
  }

  gauge(name: string, help: string, labels: readonly string[] = []): GaugeMetric {
    const gauge = this.#existing(name, Gauge) ?? new Gauge(this.#settings(name, help, labels));
    return { set: (value, values = {}) => gauge.set({ ...values }, value) };
  }

  histogram(
    name: string,
    help: string,
    buckets: readonly number[],
    labels: readonly string[] = [],
  ): HistogramMetric {
    const histogram =
      this.#existing(name, Histogram) ??
      new Histogram({ ...this.#settings(name, help, labels), buckets: [...buckets] });
    return { observe: (value, values = {}) => histogram.observe({ ...values }, value) };
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #settings(name: string, help: string, labels: readonly string[]) {
    return { name, help, labelNames: [...labels], registers: [this.#registry] };
  }

  #existing<M extends Counter | Gauge | Histogram>(
    name: string,
    kind: new (...options: never[]) => M,
  ): M | undefined {
    const metric = this.#registry.getSingleMetric(name);
    if (metric === undefined || metric instanceof kind) return metric as M | undefined;
    throw new Error(`the metric ${name} exists as another kind`);
  }
}
