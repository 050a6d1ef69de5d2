/**
 * The life of one attempt at one task, as a durable machine: facts in, pending effects out. It is
 * stepped by the durable host, which journals every fact before it counts and starts again after a
 * crash whatever is still in `context.pending`.
 *
 * M1: a turn whose answer is a fact is not generated again; a call whose end is a fact is not made
 *     again: both leave `pending` with that fact.
 * M2: a fact that answers no pending effect changes nothing.
 * M3: every state ends: by its result, its failure, cancellation or the deadline, which moves on while
 *     the attempt gets on; reporting goes on until the report is stored.
 */
import { assign, setup } from 'xstate';
import {
  type AttemptContext,
  type AttemptFact,
  type FactOf,
  NEW_ATTEMPT,
} from './attempt-facts.ts';
import * as steps from './attempt-steps.ts';
import { CANCELLED, endOfStep, judgeCommit, late } from './verdict.ts';

type Arguments = { readonly context: AttemptContext; readonly event: AttemptFact };

/** An action that only computes: the next context from the present one. */
const step = (next: (context: AttemptContext) => AttemptContext) =>
  assign<AttemptContext, AttemptFact, undefined, AttemptFact, never>(({ context }) =>
    next(context),
  );

/** The same with the fact of a type; in any other company it changes nothing. */
const keep = <T extends AttemptFact['type']>(
  type: T,
  next: (context: AttemptContext, fact: FactOf<T>) => AttemptContext,
) =>
  assign<AttemptContext, AttemptFact, undefined, AttemptFact, never>(({ context, event }) =>
    event.type === type ? next(context, event as FactOf<T>) : context,
  );

const isPending = ({ context }: Arguments, key: string): boolean => key in context.pending;

const machineSetup = setup({
  types: {} as { context: AttemptContext; events: AttemptFact },
  guards: {
    isPlan: ({ event }) => event.type === 'attempt.received' && event.task.kind === 'plan',
    isAwaited: ({ context, event }) => {
      if (event.type === 'step.failed') return isPending({ context, event }, event.key);
      if (event.type === 'turn.answered') {
        return isPending({ context, event }, steps.generateKey(event.turn));
      }
      if (event.type === 'call.ended') {
        return isPending({ context, event }, steps.callKey(event.turn, event.index));
      }
      return true;
    },
    canMend: ({ context, event }) =>
      event.type === 'step.failed' &&
      isPending({ context, event }, event.key) &&
      judgeCommit(context, event.error) !== null,
    knowsTools: ({ context }) => context.tools !== null,
    mustEnd: ({ context }) => context.verdict?.kind === 'end',
    mustAsk: ({ context }) => context.verdict?.kind === 'again',
    mustRead: ({ context }) => context.verdict?.kind === 'read_more',
    hasPlan: ({ context }) => context.verdict?.kind === 'plan',
    hasCalls: ({ context }) => context.called < context.calls.length,
  },
  actions: {
    receive: keep('attempt.received', steps.receive),
    open: step(steps.open),
    read: step(steps.read),
    keepFiles: keep('files.read', steps.keepFiles),
    list: step(steps.list),
    keepTools: keep('tools.listed', steps.keepTools),
    ask: step(steps.ask),
    keepAnswer: keep('turn.answered', steps.answer),
    call: step(steps.call),
    keepCall: keep('call.ended', steps.keepCall),
    commit: step(steps.commit),
    keepCommit: keep('attempt.committed', steps.keepCommit),
    keepRefusal: keep('step.failed', steps.keepRefusal),
    endDone: step(context => steps.finish(context, steps.done(context))),
    endByVerdict: step(context =>
      context.verdict?.kind === 'end' ? steps.finish(context, context.verdict.end) : context,
    ),
    endByFailure: keep('step.failed', (context, { key, error }) => {
      const effect = context.pending[key];
      return effect === undefined ? context : steps.finish(context, endOfStep(effect, error));
    }),
    moveDeadline: keep('deadline.moved', steps.moveDeadline),
    endCancelled: step(context => steps.finish(context, CANCELLED)),
    endLate: keep('deadline.passed', (context, { key }) =>
      steps.finish(context, late(context, key)),
    ),
    close: step(steps.close),
  },
});

/** What may end any state in which work is under way. */
const interruptions = {
  'step.failed': { guard: 'isAwaited', target: '#attempt.reporting', actions: 'endByFailure' },
  'attempt.cancelled': { target: '#attempt.reporting', actions: 'endCancelled' },
  'deadline.moved': { actions: 'moveDeadline' },
  'deadline.passed': { target: '#attempt.reporting', actions: 'endLate' },
} as const;

export const attemptMachine = machineSetup.createMachine({
  id: 'attempt',
  context: NEW_ATTEMPT,
  initial: 'empty',
  states: {
    empty: {
      on: {
        'attempt.received': [
          { guard: 'isPlan', target: 'working.listing', actions: 'receive' },
          { target: 'working.opening', actions: 'receive' },
        ],
      },
    },
    working: {
      initial: 'opening',
      on: interruptions,
      states: {
        opening: { entry: 'open', on: { 'workspace.opened': 'reading' } },
        reading: {
          entry: 'read',
          on: {
            'files.read': [
              { guard: 'knowsTools', target: 'asking', actions: 'keepFiles' },
              { target: 'listing', actions: 'keepFiles' },
            ],
          },
        },
        listing: {
          entry: 'list',
          on: { 'tools.listed': { target: 'asking', actions: 'keepTools' } },
        },
        asking: {
          entry: 'ask',
          always: { guard: 'mustEnd', target: '#attempt.reporting', actions: 'endByVerdict' },
          on: { 'turn.answered': { guard: 'isAwaited', target: 'judging', actions: 'keepAnswer' } },
        },
        judging: {
          always: [
            { guard: 'mustEnd', target: '#attempt.reporting', actions: 'endByVerdict' },
            { guard: 'mustAsk', target: 'asking' },
            { guard: 'mustRead', target: 'reading' },
            { guard: 'hasPlan', target: '#attempt.reporting', actions: 'endDone' },
            { guard: 'hasCalls', target: 'calling' },
            { target: 'committing' },
          ],
        },
        calling: {
          entry: 'call',
          on: { 'call.ended': { guard: 'isAwaited', target: 'judging', actions: 'keepCall' } },
        },
        committing: {
          entry: 'commit',
          on: {
            'step.failed': { guard: 'canMend', target: 'judging', actions: 'keepRefusal' },
            'attempt.committed': {
              target: '#attempt.reporting',
              actions: ['keepCommit', 'endDone'],
            },
          },
        },
      },
    },
    reporting: { on: { 'attempt.reported': { target: 'closed', actions: 'close' } } },
    closed: { type: 'final' },
  },
});
