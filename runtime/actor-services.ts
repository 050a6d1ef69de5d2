/**
 * NATS service discovery (ADR-32): every actor answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, to
 * all, by name, and by name and id, so that `nats micro ls` shows the system.
 */
import type { Bus, Subscription } from './bus.ts';
import type { Endpoint } from './endpoints.ts';

export interface ServiceDescription {
  /** `codegod-master`. */
  readonly name: string;
  /** One token of a subject; differs from process to process. */
  readonly id: string;
  /** Semantic version. */
  readonly version: string;
  readonly description: string;
  /** ISO 8601. */
  readonly started: string;
}

export interface ServiceSource {
  metadata(): Readonly<Record<string, string>>;
  endpoints(): readonly Endpoint[];
}

const VERBS = ['PING', 'INFO', 'STATS'] as const;
type Verb = (typeof VERBS)[number];

const NANOSECONDS_PER_MS = 1e6;
const encoder = new TextEncoder();

/** Answers until stopped. */
export function announceService(
  bus: Bus,
  description: ServiceDescription,
  source: ServiceSource,
): Subscription {
  const { name, id } = description;
  const subscriptions = VERBS.flatMap(verb =>
    [`$SRV.${verb}`, `$SRV.${verb}.${name}`, `$SRV.${verb}.${name}.${id}`].map(subject =>
      bus.serve(subject, async () => ({
        body: encoder.encode(JSON.stringify(answer(verb, description, source))),
      })),
    ),
  );
  return {
    async stop() {
      await Promise.all(subscriptions.map(subscription => subscription.stop()));
    },
  };
}

function answer(verb: Verb, description: ServiceDescription, source: ServiceSource): object {
  const { name, id, version } = description;
  const type = `io.nats.micro.v1.${verb.toLowerCase()}_response`;
  const head = { type, name, id, version, metadata: source.metadata() };
  switch (verb) {
    case 'PING':
      return head;
    case 'INFO':
      return {
        ...head,
        description: description.description,
        endpoints: source.endpoints().map(endpointInfo),
      };
    case 'STATS':
      return {
        ...head,
        started: description.started,
        endpoints: source.endpoints().map(endpoint => ({
          ...endpointInfo(endpoint),
          ...endpointStats(endpoint),
        })),
      };
  }
}

const endpointInfo = ({ name, subject, queue }: Endpoint) => ({
  name: name.replaceAll('.', '-'),
  subject,
  queue_group: queue ?? '',
});

function endpointStats(endpoint: Endpoint) {
  const { requests, errors, last_error } = endpoint;
  const processing = Math.round(endpoint.processing_ms * NANOSECONDS_PER_MS);
  return {
    num_requests: requests,
    num_errors: errors,
    last_error,
    processing_time: processing,
    average_processing_time: requests === 0 ? 0 : Math.round(processing / requests),
  };
}
