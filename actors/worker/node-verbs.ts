/**
 * What a node does when it is told to: reserve, release and cancel for attempts; show, pull, load,
 * unload and drain for people and for the master. Repeating any of it changes nothing more.
 */

import { CodeGodError } from '../../protocol/errors.ts';
import type { NodeId } from '../../protocol/ids.ts';
import {
  DrainRequest,
  LoadRequest,
  PullRequest,
  SHOWN_LENGTH_MAX,
  SHOWN_PART_LENGTH_MAX,
  ShowRequest,
  UnloadRequest,
} from '../../protocol/inference.ts';
import {
  type Acknowledgement,
  CancelRequest,
  ReleaseRequest,
  ReserveRequest,
} from '../../protocol/node.ts';
import { nodeSubject } from '../../protocol/subjects.ts';
import type { Subscription } from '../../runtime/bus.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Messenger } from '../../runtime/messages.ts';
import type { Situation } from './admission.ts';
import type { Attempts } from './attempts.ts';
import type { Draining } from './draining.ts';
import type { LeaseBook } from './lease-book.ts';
import type { ModelHost } from './model-host.ts';

export interface NodeVerbsOptions {
  readonly messenger: Messenger;
  readonly node: NodeId;
  readonly log: Logger;
  readonly leases: LeaseBook;
  readonly attempts: Attempts;
  readonly models: ModelHost;
  readonly draining: Draining;
  readonly situation: () => Situation;
}

/** Pulls at once; each has a disk and a line to share with the others. */
const PULLS_MAX = 8;
/** Answers of megabytes perhaps. */
const SHOWS_MAX = 4;
const DONE: Acknowledgement = { ok: true };

export function serveNodeVerbs(options: NodeVerbsOptions): Subscription[] {
  const { messenger, node, log, leases, attempts, models, draining, situation } = options;
  return [
    messenger.serve(nodeSubject(node, 'reserve'), ReserveRequest, async request => {
      const reply = await leases.reserve(request, situation);
      const { build, task, attempt, model, bytes } = request;
      log.info('lease.decided', { build, task, attempt, model, bytes, ...reply });
      return reply;
    }),
    messenger.serve(nodeSubject(node, 'release'), ReleaseRequest, async ({ lease }) => {
      await leases.release(lease);
      return DONE;
    }),
    messenger.serve(nodeSubject(node, 'cancel'), CancelRequest, async request => {
      await attempts.cancel(request);
      return DONE;
    }),
    messenger.serve(nodeSubject(node, 'load'), LoadRequest, async (request, { signal }) => {
      await models.load(request, signal);
      return DONE;
    }),
    messenger.serve(nodeSubject(node, 'unload'), UnloadRequest, async request => {
      await models.unload(request);
      return DONE;
    }),
    messenger.serve(nodeSubject(node, 'drain'), DrainRequest, async ({ drain }) => {
      await draining.set(drain);
      return { draining: draining.asked, at_work: attempts.open().size + models.inferences };
    }),
    messenger.serveStream(
      nodeSubject(node, 'show'),
      ShowRequest,
      async (request, { signal, send }) => {
        const text = JSON.stringify(await models.show(request, signal));
        if (text.length > SHOWN_LENGTH_MAX) {
          throw new CodeGodError(
            'too_large',
            `what the engine says of ${request.model} is too much`,
          );
        }
        for (let from = 0; from < text.length; from += SHOWN_PART_LENGTH_MAX) {
          await send({ text: text.slice(from, from + SHOWN_PART_LENGTH_MAX) });
        }
      },
      { concurrency: SHOWS_MAX },
    ),
    messenger.serveStream(
      nodeSubject(node, 'pull'),
      PullRequest,
      async ({ model }, { signal, send }) => {
        log.info('model.pull_began', { model });
        for await (const progress of models.pull(model, signal)) await send(progress);
        log.info('model.pulled', { model });
      },
      { concurrency: PULLS_MAX },
    ),
  ];
}
