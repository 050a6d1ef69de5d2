/**
 * Takes tasks off the bus: the node's own subjects of CODEGOD_TASK.
 *
 * I1: a message is acked when its task is in the journal, and not before.
 * I2: a message that is no task becomes a dead letter, and where it says which attempt it was for,
 *     that attempt is reported as failed, so that nobody waits for it.
 * I3: without a lease that holds there is no work: the report says `lease_lost`.
 * I4: a message whose report finds no room is delivered again, ever later.
 */
import { NO_USAGE } from '../../protocol/build.ts';
import { decode } from '../../protocol/codec.ts';
import { HEADER } from '../../protocol/envelope.ts';
import { CodeGodError, toWireError, type WireError } from '../../protocol/errors.ts';
import { BuildStamp, LeaseId, type NodeId, stampedBuild } from '../../protocol/ids.ts';
import { AttemptScope } from '../../protocol/mcp.ts';
import { CONSUMERS, STREAMS } from '../../protocol/streams.ts';
import { taskSubject, tasksOf } from '../../protocol/subjects.ts';
import { TaskMessage, TaskReport } from '../../protocol/task.ts';
import type { Delivery, Outcome, Subscription } from '../../runtime/bus.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Messenger } from '../../runtime/messages.ts';
import type { ReportPort } from './ports.ts';

const TAKEN_AT_ONCE = 4;
const UNACKED_MAX = 64;
const NO_ROOM_MS = 1_000;

export interface IntakeOptions {
  readonly messenger: Messenger;
  readonly node: NodeId;
  readonly log: Logger;
  readonly reports: ReportPort;
  /** Silence after which a message is delivered again. */
  readonly ackWaitMs: number;
  readonly knows: (scope: AttemptScope) => Promise<boolean>;
  readonly holdsLease: (task: TaskMessage) => boolean;
  readonly take: (task: TaskMessage) => Promise<void>;
}

export function startIntake(options: IntakeOptions): Promise<Subscription> {
  const { messenger, node } = options;
  const settings = {
    durable: `worker-${node}`,
    filter: tasksOf(node),
    ack_wait_ms: options.ackWaitMs,
    max_deliver: CONSUMERS.worker_task.max_deliver,
    max_ack_pending: UNACKED_MAX,
    concurrency: TAKEN_AT_ONCE,
    sole: true,
    forgotten_after_ms: CONSUMERS.worker_task.forgotten_after_ms,
  };
  return messenger.consume(
    STREAMS.task.name,
    settings,
    TaskMessage,
    (task, delivery) => withRoom(delivery, () => accept(options, task, delivery)),
    (error, delivery) => withRoom(delivery, () => refuse(options, error, delivery)),
  );
}

/** I4 */
async function withRoom(
  { deliveries }: Delivery,
  handle: () => Promise<Outcome>,
): Promise<Outcome> {
  try {
    return await handle();
  } catch (error) {
    const { code, message } = toWireError(error);
    if (code !== 'overloaded') throw error;
    return { kind: 'retry', delay_ms: NO_ROOM_MS * 2 ** deliveries, reason: message };
  }
}

async function accept(
  options: IntakeOptions,
  task: TaskMessage,
  delivery: Delivery,
): Promise<Outcome> {
  const { node, reports, log } = options;
  const subject = taskSubject(node, task.build, task.task, task.attempt);
  if (!delivery.subject.endsWith(subject) || task.node !== node) {
    const message = `the message says ${subject}, its subject ${delivery.subject}`;
    return refuse(options, new CodeGodError('bad_message', message), delivery);
  }
  if (await options.knows(task)) return { kind: 'done' };
  if (!options.holdsLease(task)) {
    const message = `the lease ${task.lease} is not current on ${node}`;
    log.warn('task.lease_lost', { subject, lease: task.lease });
    await reports.send(failedReport(task, { code: 'lease_lost', message }));
    return { kind: 'done' };
  }
  await options.take(task);
  return { kind: 'done' };
}

async function refuse(
  { messenger, node, log, reports }: IntakeOptions,
  error: CodeGodError,
  delivery: Delivery,
): Promise<Outcome> {
  const reason = toWireError(error);
  log.warn('task.refused', { subject: delivery.subject, error });
  const scope = scopeOf(delivery.subject);
  if (scope !== null) {
    const said = readable(delivery);
    const engine = TaskReport.shape.engine.safeParse(said['engine']);
    const model = TaskReport.shape.model.safeParse(said['model']);
    await reports.send(
      failedReport(
        {
          ...scope,
          ...stampedBuild({ ...scope, stamp: BuildStamp.safeParse(said['stamp']).data }),
          node,
          lease: LeaseId.safeParse(said['lease']).data ?? LeaseId.parse('none'),
          engine: engine.data ?? 'scaffold',
          model: model.data ?? '',
        },
        reason,
      ),
    );
  }
  await messenger.deadLetter(STREAMS.task.name, delivery, reason);
  return { kind: 'reject', reason: reason.message };
}

/** The attempt that a subject names: its last three tokens. */
function scopeOf(subject: string): AttemptScope | null {
  const [build, task, attempt] = subject.split('.').slice(-3);
  const scope = AttemptScope.safeParse({ build, task, attempt: Number(attempt) });
  return scope.success ? scope.data : null;
}

/** The body as far as it is an object at all. */
function readable(delivery: Delivery): Readonly<Record<string, unknown>> {
  try {
    const value = decode(delivery.body, delivery.headers[HEADER.contentType]);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch (error) {
    if (error instanceof CodeGodError) return {}; // That it cannot be read is why it is refused.
    throw error;
  }
}

type Named = Pick<
  TaskReport,
  'build' | 'stamp' | 'task' | 'attempt' | 'lease' | 'node' | 'engine' | 'model'
>;

const failedReport = (named: Named, error: WireError): TaskReport => {
  const { task, attempt, lease, node, engine, model } = named;
  return {
    ...{ ...stampedBuild(named), task, attempt, lease, node, engine, model },
    outcome: 'failed',
    error,
    blame: 'infrastructure',
    summary: error.message.slice(0, 1_000),
    plan: null,
    commit: null,
    files: [],
    tool_calls: [],
    usage: NO_USAGE,
  };
};
