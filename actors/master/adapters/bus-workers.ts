/** Workers over the bus: `codegod.node.<node>.*` and the stream of tasks. */
import { CodeGodError, toWireError } from '../../../protocol/errors.ts';
import { Acknowledgement, ReserveReply } from '../../../protocol/node.ts';
import { STREAMS } from '../../../protocol/streams.ts';
import { nodeSubject, taskSubject } from '../../../protocol/subjects.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import type { NodePort } from '../ports.ts';

/**
 * A node that went silent a moment ago is asked in vain, while an attempt waits that ran on another
 * that did: both have to fit into the 20 s after which it is to run elsewhere. A lease that is granted
 * too late is found as a stray.
 */
const RESERVE_MS = 2_000;
const RELEASE_MS = 2_000;
const CANCEL_MS = 2_000;
/** A worker that is just starting again is asked to stop this often before it is let be. */
const CANCEL_TRIES = 3;
const CANCEL_PAUSE_MS = 1_000;

export interface WorkerPortOptions {
  readonly messenger: Messenger;
  readonly clock: Clock;
  readonly log: Logger;
  /** Revision of the lease under which this master leads. */
  readonly fence: () => number;
}

export function createWorkerPort(options: WorkerPortOptions): NodePort {
  const { messenger, log, fence } = options;
  return {
    reserve: (node, request) =>
      messenger.ask(nodeSubject(node, 'reserve'), request, ReserveReply, {
        timeout_ms: RESERVE_MS,
      }),
    async release(node, lease) {
      const request = { lease };
      const ask = messenger.ask(nodeSubject(node, 'release'), request, Acknowledgement, {
        timeout_ms: RELEASE_MS,
      });
      // A lease that is not given back ends by itself.
      await ask.catch(error => log.info('lease.release_failed', { node, lease, error }));
    },
    async dispatch(message) {
      const { node, build, task, attempt } = message;
      const subject = taskSubject(node, build, task, attempt);
      const id = `${build}.${task}.${attempt}.${node}`;
      const more = { id, fence: fence(), attempt };
      const result = await messenger.append(subject, 'task.assigned', message, more);
      if (result.kind === 'stream_full') {
        throw new CodeGodError('disk_full', `the stream ${STREAMS.task.name} is full`);
      }
    },
    async withdraw(node, attempt, signal) {
      const subject = taskSubject(node, attempt.build, attempt.task, attempt.attempt);
      await messenger.bus.streams.purge(STREAMS.task.name, subject);
      await cancel(options, nodeSubject(node, 'cancel'), attempt, signal);
    },
    stop: (node, attempt, signal) => cancel(options, nodeSubject(node, 'cancel'), attempt, signal),
  };
}

/** Bounded: a worker that cannot be reached has nothing to stop, or its report will be dropped. */
async function cancel(
  options: WorkerPortOptions,
  subject: string,
  request: unknown,
  signal: AbortSignal,
): Promise<void> {
  const { messenger, clock, log } = options;
  for (let tries = 1; tries <= CANCEL_TRIES; tries++) {
    try {
      const limits = { timeout_ms: CANCEL_MS, signal };
      await messenger.ask(subject, request, Acknowledgement, limits);
      return;
    } catch (error) {
      signal.throwIfAborted();
      log.info('attempt.cancel_unanswered', { subject, tries, error: toWireError(error) });
      if (tries < CANCEL_TRIES) await clock.sleep(CANCEL_PAUSE_MS, signal);
    }
  }
}
