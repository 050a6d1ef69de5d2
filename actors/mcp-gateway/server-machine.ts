/**
 * The life of one tool server: started when somebody needs it, stopped when nobody does, restarted
 * with growing pauses when it dies, left alone when it dies again and again.
 *
 * A live machine: it dies with its process and begins cold. The connection (the child process) is an
 * actor handed in from outside; its events carry what the machine needs of time and chance.
 *
 * S1: every state ends by itself: `starting` by the time limit of the handshake, `stopping` by the
 *     kill at the end of politeness, `backoff`, `crash_loop` and `missing` by their pauses.
 * S2: a crash counts for five minutes; five of them within that time are a crash loop.
 */
import { type AnyEventObject, assign, fromCallback, sendTo, setup } from 'xstate';

export interface ServerTimings {
  readonly idleMs: number;
  readonly crashLoopPauseMs: number;
  readonly missingPauseMs: number;
}

export const SERVER_TIMINGS: ServerTimings = {
  idleMs: 300_000,
  crashLoopPauseMs: 300_000,
  missingPauseMs: 30_000,
};

export interface ServerInput {
  readonly name: string;
  readonly timings: ServerTimings;
}

interface ServerContext extends ServerInput {
  readonly pid: number | null;
  readonly callsInFlight: number;
  /** Somebody waits for it while it pauses. */
  readonly wanted: boolean;
  /** Moments of the crashes that still count (S2). */
  readonly crashes: readonly number[];
  readonly restarts: number;
  readonly pauseMs: number;
  /** Why it is not ready; null while all is well. */
  readonly reason: string | null;
  readonly fix: string | null;
}

export type ServerEvent =
  | { readonly type: 'server.wanted' }
  | { readonly type: 'server.started'; readonly pid: number | null }
  /** The handshake is done and the tools are known. */
  | { readonly type: 'server.ready' }
  | { readonly type: 'call.began' }
  | { readonly type: 'call.ended' }
  | { readonly type: 'server.stop' }
  /** `jitter` in [0, 1) spreads the restarts of many servers. */
  | {
      readonly type: 'server.exited';
      readonly at: number;
      readonly jitter: number;
      readonly reason: string;
    }
  | { readonly type: 'server.missing'; readonly reason: string; readonly fix: string }
  | { readonly type: 'server.reset' };

const CRASH_WINDOW_MS = 300_000;
const CRASHES_MAX = 5;
const PAUSE_FIRST_MS = 1_000;
const PAUSE_MAX_MS = 16_000;

/** 1, 2, 4, 8, 16 s, each up to a fifth longer or shorter. */
export function pauseAfter(crashes: number, jitter: number): number {
  const pause = Math.min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** Math.max(0, crashes - 1));
  return Math.round(pause * (0.8 + 0.4 * jitter));
}

export const serverMachine = setup({
  types: {
    context: {} as ServerContext,
    events: {} as ServerEvent,
    input: {} as ServerInput,
  },
  actors: {
    /** Starts the process, reports it, and ends it on `server.stop` or when the state is left. */
    connection: fromCallback<AnyEventObject, { readonly name: string }>(() => {
      throw new Error('the port "connection" is not provided');
    }),
  },
  guards: {
    crashesTooOften: ({ context, event }) =>
      event.type === 'server.exited' && recent(context, event.at).length + 1 >= CRASHES_MAX,
    lastCallEnds: ({ context }) => context.callsInFlight <= 1,
    isWanted: ({ context }) => context.wanted,
  },
  actions: {
    noteProcess: assign({
      pid: ({ event }) => (event.type === 'server.started' ? event.pid : null),
    }),
    noteWanted: assign({ wanted: true }),
    noteStart: assign({ wanted: false, callsInFlight: 0 }),
    noteReady: assign({ reason: null, fix: null }),
    countCallUp: assign({ callsInFlight: ({ context }) => context.callsInFlight + 1 }),
    countCallDown: assign({
      callsInFlight: ({ context }) => Math.max(0, context.callsInFlight - 1),
    }),
    noteStopped: assign({ pid: null, callsInFlight: 0 }),
    noteCrash: assign(({ context, event }) => {
      if (event.type !== 'server.exited') return {};
      const crashes = [...recent(context, event.at), event.at];
      const pauseMs = pauseAfter(crashes.length, event.jitter);
      const restarts = context.restarts + 1;
      return { pid: null, callsInFlight: 0, crashes, pauseMs, restarts, reason: event.reason };
    }),
    noteMissing: assign(({ event }) =>
      event.type === 'server.missing' ? { pid: null, reason: event.reason, fix: event.fix } : {},
    ),
    forgetCrashes: assign({ crashes: [], reason: null, fix: null, wanted: false }),
    tellToStop: sendTo('connection', { type: 'server.stop' }),
  },
  delays: {
    idle: ({ context }) => context.timings.idleMs,
    pause: ({ context }) => context.pauseMs,
    crashLoopPause: ({ context }) => context.timings.crashLoopPauseMs,
    missingPause: ({ context }) => context.timings.missingPauseMs,
  },
}).createMachine({
  id: 'server',
  context: ({ input }) => ({
    ...input,
    pid: null,
    callsInFlight: 0,
    wanted: false,
    crashes: [],
    restarts: 0,
    pauseMs: 0,
    reason: null,
    fix: null,
  }),
  initial: 'cold',
  states: {
    cold: {
      on: { 'server.wanted': 'alive' },
    },
    alive: {
      entry: 'noteStart',
      invoke: {
        id: 'connection',
        src: 'connection',
        input: ({ context }) => ({ name: context.name }),
      },
      initial: 'starting',
      on: {
        'server.started': { actions: 'noteProcess' },
        'server.missing': { target: 'missing', actions: 'noteMissing' },
        'server.exited': [
          { guard: 'crashesTooOften', target: 'crash_loop', actions: 'noteCrash' },
          { target: 'backoff', actions: 'noteCrash' },
        ],
      },
      states: {
        starting: {
          on: {
            'server.ready': { target: 'idle', actions: 'noteReady' },
            'server.stop': 'stopping',
          },
        },
        ready: {
          on: {
            'call.began': { actions: 'countCallUp' },
            'call.ended': [
              { guard: 'lastCallEnds', target: 'idle', actions: 'countCallDown' },
              { actions: 'countCallDown' },
            ],
            'server.stop': 'stopping',
          },
        },
        idle: {
          after: { idle: 'stopping' },
          on: {
            'call.began': { target: 'ready', actions: 'countCallUp' },
            'server.stop': 'stopping',
          },
        },
        stopping: {
          entry: 'tellToStop',
          on: {
            'server.wanted': { actions: 'noteWanted' },
            'server.exited': [
              { guard: 'isWanted', target: '#server.alive', reenter: true, actions: 'noteStopped' },
              { target: '#server.cold', actions: 'noteStopped' },
            ],
          },
        },
      },
    },
    backoff: {
      after: {
        pause: [{ guard: 'isWanted', target: 'alive' }, { target: 'cold' }],
      },
      on: {
        'server.wanted': { actions: 'noteWanted' },
        'server.reset': { target: 'cold', actions: 'forgetCrashes' },
      },
    },
    crash_loop: {
      after: { crashLoopPause: { target: 'cold', actions: 'forgetCrashes' } },
      on: { 'server.reset': { target: 'cold', actions: 'forgetCrashes' } },
    },
    missing: {
      after: { missingPause: 'cold' },
      on: { 'server.reset': { target: 'cold', actions: 'forgetCrashes' } },
    },
  },
});

function recent(context: ServerContext, at: number): readonly number[] {
  return context.crashes.filter(crash => at - crash < CRASH_WINDOW_MS);
}
