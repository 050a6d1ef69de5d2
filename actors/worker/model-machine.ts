/**
 * The life of one loaded copy of a model: nowhere, room made for it, loaded, at work, unloaded.
 *
 * A live machine: it dies with its process, and what the engine has then is found again. Who may use
 * the copy and what has to go for it is decided before its events are sent; the ports do the rest.
 *
 * C1: a copy at work is never unloaded: `copy.unload` counts only while nobody holds it, and only
 *     `copy.revoke` goes further, after its holders have been told.
 * C2: every state ends: `making_room` and `unloading` by the limits of their ports, `loading` by its
 *     progress. A load that is given up or fails is cleared away by an unload.
 * C3: a copy that is wanted while it is unloaded is loaded afterwards, without anybody asking again.
 */
import { assign, fromPromise, setup } from 'xstate';
import { toWireError, type WireError } from '../../protocol/errors.ts';

export interface CopyInput {
  readonly model: string;
}

/** What a load takes: how large, and what goes for it. */
export interface LoadPlan {
  readonly context_tokens: number;
  /** As the asker estimates it. */
  readonly bytes: number;
  /** Models that have to be unloaded first. */
  readonly evict: readonly string[];
}

interface CopyContext extends CopyInput {
  /** Of the copy that is loaded; null while there is none, or nobody knows. */
  readonly contextTokens: number | null;
  /** What the engine was asked for when it loaded that; asked for anything else it loads again. */
  readonly askedTokens: number | null;
  readonly holds: number;
  /** The load under way, or the one that follows an unload (C3). */
  readonly plan: LoadPlan | null;
  /** Why the last load or unload failed; null where it did not. */
  readonly error: WireError | null;
}

export type CopyEvent =
  | { readonly type: 'copy.load'; readonly plan: LoadPlan }
  /** Nobody waits for the load any more. */
  | { readonly type: 'copy.cancel' }
  | { readonly type: 'copy.unload' }
  | { readonly type: 'copy.revoke' }
  /** The engine has it, or does not have it, without our doing. */
  | {
      readonly type: 'copy.found';
      readonly contextTokens: number | null;
      /** Whether it is the loading that is known. */
      readonly isKnown: boolean;
    }
  | { readonly type: 'copy.gone' }
  /** With what it asks of a copy of unknown context, which has that from then on. */
  | { readonly type: 'hold.began'; readonly contextTokens: number }
  | { readonly type: 'hold.ended' };

const unprovided = fromPromise<never, never>(() =>
  Promise.reject(new Error('port not provided')),
) as unknown;

export type CopyPort<T> = ReturnType<typeof fromPromise<T, LoadPlan & CopyInput>>;

export const copyMachine = setup({
  types: {
    context: {} as CopyContext,
    events: {} as CopyEvent,
    input: {} as CopyInput,
  },
  actors: {
    /** Waits until what is to go is gone and its memory is back. */
    makeRoom: unprovided as CopyPort<void>,
    /** Answers with the context that was really allocated. */
    load: unprovided as CopyPort<number>,
    unload: unprovided as ReturnType<typeof fromPromise<void, CopyInput>>,
  },
  guards: {
    isLastHold: ({ context }) => context.holds <= 1,
    isWanted: ({ context }) => context.plan !== null,
  },
  actions: {
    noteLoad: assign(({ event }) =>
      event.type === 'copy.load' ? { plan: event.plan, error: null } : {},
    ),
    noteFound: assign(({ context, event }) => {
      if (event.type !== 'copy.found') return {};
      const { contextTokens, isKnown } = event;
      // An engine that does not say it has what it was asked for.
      if (isKnown) return { contextTokens: contextTokens ?? context.contextTokens, error: null };
      return { contextTokens, askedTokens: contextTokens, error: null };
    }),
    noteAbsent: assign({ contextTokens: null, askedTokens: null, holds: 0 }),
    forgetPlan: assign({ plan: null }),
    countHoldUp: assign(({ context: { holds, contextTokens, askedTokens }, event }) => {
      const asked = (event.type === 'hold.began' && event.contextTokens) || null;
      return {
        ...{ holds: holds + 1, contextTokens: contextTokens ?? asked },
        askedTokens: askedTokens ?? contextTokens ?? asked,
      };
    }),
    countHoldDown: assign({ holds: ({ context }) => Math.max(0, context.holds - 1) }),
    noteFailure: assign(({ event }) => ({
      plan: null,
      error: toWireError('error' in event ? event.error : event),
    })),
  },
}).createMachine({
  id: 'copy',
  context: ({ input }) => ({
    ...input,
    contextTokens: null,
    askedTokens: null,
    holds: 0,
    plan: null,
    error: null,
  }),
  initial: 'absent',
  states: {
    absent: {
      entry: 'noteAbsent',
      on: {
        'copy.load': { target: 'making_room', actions: 'noteLoad' },
        'copy.found': { target: 'loaded', actions: 'noteFound' },
      },
    },
    making_room: {
      invoke: {
        src: 'makeRoom',
        input: ({ context }) => planned(context),
        onDone: 'loading',
        onError: { target: 'absent', actions: 'noteFailure' },
      },
      on: { 'copy.cancel': { target: 'absent', actions: 'forgetPlan' } },
    },
    loading: {
      invoke: {
        src: 'load',
        input: ({ context }) => planned(context),
        onDone: {
          target: 'loaded',
          actions: assign({
            contextTokens: ({ event }) => event.output,
            askedTokens: ({ context, event }) => context.plan?.context_tokens || event.output,
            plan: null,
          }),
        },
        onError: { target: 'unloading', actions: 'noteFailure' },
      },
      on: { 'copy.cancel': { target: 'unloading', actions: 'forgetPlan' } },
    },
    loaded: {
      initial: 'idle',
      on: {
        'copy.found': { actions: 'noteFound' },
        'copy.gone': 'absent',
        'copy.revoke': 'unloading',
      },
      states: {
        idle: {
          on: {
            'hold.began': { target: 'busy', actions: 'countHoldUp' },
            'copy.unload': '#copy.unloading',
            // With a larger context: what is loaded goes first.
            'copy.load': { target: '#copy.unloading', actions: 'noteLoad' },
          },
        },
        busy: {
          on: {
            'hold.began': { actions: 'countHoldUp' },
            'hold.ended': [
              { guard: 'isLastHold', target: 'idle', actions: 'countHoldDown' },
              { actions: 'countHoldDown' },
            ],
          },
        },
      },
    },
    unloading: {
      entry: 'noteAbsent',
      invoke: {
        src: 'unload',
        input: ({ context: { model } }) => ({ model }),
        onDone: [{ guard: 'isWanted', target: 'making_room' }, { target: 'absent' }],
        onError: { target: 'absent', actions: 'noteFailure' },
      },
      on: {
        'copy.load': { actions: 'noteLoad' },
        'copy.cancel': { actions: 'forgetPlan' },
      },
    },
  },
});

function planned({ model, plan }: CopyContext): LoadPlan & CopyInput {
  if (plan === null) throw new Error('a load has a plan');
  return { model, ...plan };
}
