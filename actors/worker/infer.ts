/**
 * Serves `codegod.node.<node>.infer`: a client's request in, bytes of its answer out.
 *
 * S1: what is wrong with a request is told before a model is touched for it.
 * S2: only the envelope is checked here; what a client may say is for its dialect to know.
 */
import { acceptVersion } from '../../protocol/envelope.ts';
import { CodeGodError, toWireError } from '../../protocol/errors.ts';
import type { NodeId } from '../../protocol/ids.ts';
import { InferRequest } from '../../protocol/inference.ts';
import type { EngineAdvert } from '../../protocol/node.ts';
import { nodeSubject } from '../../protocol/subjects.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { Bus, BusMessage, ServeStreamContext, Subscription } from '../../runtime/bus.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { ModelLender, ReadingRates } from './hold.ts';
import type { ModelFacts } from './relay/dialect.ts';
import { DIALECTS } from './relay/dialects.ts';
import { type Fields, isFields } from './relay/fields.ts';
import { Inference, type InferenceParts, type Outcome } from './relay/inference.ts';
import { fetchBody, LargeBodies } from './relay/large-body.ts';
import { Turn } from './relay/outflow.ts';
import { Pulse } from './relay/pulse.ts';
import type { Relay } from './relay/relay.ts';

export interface InferParts {
  readonly bus: Bus;
  readonly node: NodeId;
  readonly clock: Clock;
  readonly log: Logger;
  readonly lender: ModelLender;
  /** Of the engines that answer clients. */
  readonly relays: Readonly<Partial<Record<EngineName, Relay>>>;
  readonly engines: () => readonly EngineAdvert[];
  readonly rates: ReadingRates;
}

const Envelope = InferRequest.omit({ body: true });
const decoder = new TextDecoder('utf-8', { fatal: true });
const UNKNOWN: ModelFacts = { capabilities: null, family: null };

export function serveInferences(parts: InferParts): Subscription {
  const { bus, clock, lender, node, rates } = parts;
  const shared: InferenceParts = {
    clock,
    lender,
    pulse: new Pulse(clock),
    turn: new Turn(),
    rates,
  };
  const large = new LargeBodies();
  return bus.serveStream(nodeSubject(node, 'infer'), async (message, context) => {
    const request = readRequest(message);
    const { artifact } = request;
    if (artifact === undefined) return await answer(parts, shared, request, context);
    large.enter(artifact);
    try {
      await answer(parts, shared, request, context);
    } finally {
      large.leave(artifact);
    }
  });
}

async function answer(
  parts: InferParts,
  shared: InferenceParts,
  request: InferRequest,
  context: ServeStreamContext,
): Promise<void> {
  const { bus, clock, log } = parts;
  const { request: id, dialect, engine, model } = request;
  try {
    const relay = relayOf(parts, engine);
    const body = await bodyOf(bus, request, context.signal);
    const facts = factsOf(parts.engines(), engine, model);
    const created = Math.floor(clock.now() / 1_000);
    const translation = DIALECTS[dialect](body, { request: id, model, facts, created }); // S1
    const { ignored } = translation;
    if (ignored.length > 0) log.debug('infer.options_ignored', { request: id, model, ignored });
    const inference = new Inference(shared, request, translation, relay, context);
    told(log, request, await inference.run());
  } catch (error) {
    const { code, message: reason } = toWireError(error);
    log.info('infer.not_answered', { request: id, model, dialect, code, reason });
    throw error;
  }
}

function told(log: Logger, request: InferRequest, { usage, failure }: Outcome): void {
  const { request: id, dialect, model } = request;
  const about = { request: id, model, dialect, ...usage };
  if (failure === null) log.debug('infer.answered', about);
  else log.warn('infer.broken_off', { ...about, error: failure });
}

/** @throws CodeGodError `bad_message`, `unsupported_version`. */
function readRequest(message: BusMessage): InferRequest {
  acceptVersion(message.headers);
  const result = Envelope.safeParse(parse(message.body));
  if (result.success) return result.data as InferRequest;
  const issues = result.error.issues
    .slice(0, 16)
    .map(({ path, message: what }) => ({ path: path.map(String).join('.'), message: what }));
  const words = issues.map(({ path, message: what }) => `${path || '(the whole)'}: ${what}`);
  throw new CodeGodError(
    'bad_message',
    `the request is wrong: ${words.join('; ')}`.slice(0, 2_048),
    {
      details: { issues },
    },
  );
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch (cause) {
    throw new CodeGodError('bad_message', 'the request is not JSON', { cause });
  }
}

/** S2. */
async function bodyOf(bus: Bus, request: InferRequest, signal: AbortSignal): Promise<Fields> {
  const { body, artifact } = request;
  if (isFields(body)) return body;
  if (body === undefined && artifact !== undefined) return await fetchBody(bus, artifact, signal);
  throw new CodeGodError('bad_message', 'a request has a body, or an artifact that holds it');
}

function relayOf({ relays }: InferParts, engine: EngineName): Relay {
  const relay = relays[engine];
  if (relay !== undefined) return relay;
  if (engine === 'scaffold') {
    throw new CodeGodError('bad_request', 'the scaffold engine writes projects, it does not chat');
  }
  throw new CodeGodError('engine_unavailable', `this node does not pass requests to ${engine}`);
}

function factsOf(engines: readonly EngineAdvert[], engine: EngineName, model: string): ModelFacts {
  const models = engines.find(({ name }) => name === engine)?.models ?? [];
  return models.find(({ name }) => name === model) ?? UNKNOWN;
}
