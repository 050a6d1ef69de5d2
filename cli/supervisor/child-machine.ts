/**
 * The life of one supervised child, an actor or the bus server, as a live machine.
 *
 * M1  A child that ends without being asked to is started again: at once the first time, then after
 *     growing pauses up to a bound, for ever. It is never given up silently: `crashLooping` says so.
 * M2  A child that has run steadily for a while is forgiven its earlier deaths.
 * M3  Stopping is bounded: asked politely first, killed when the time to drain is over.
 * M4  A child that does not become ready in time is killed and counts as having died.
 * M5  A running child may have a trouble, such as a bus that is away: it is told, and the child is
 *     left to do what it can. One that does not answer at all is ended by its port, and has died.
 */
import { type ActorRefFrom, assign, fromCallback, type SnapshotFrom, sendTo, setup } from 'xstate';

export interface ChildPolicy {
  /** Longest wait until a started child says that it is ready. */
  readonly start_ms: number;
  /** Longest wait between asking a child to end and killing it. */
  readonly drain_ms: number;
  /** After this long without dying, earlier deaths no longer count. */
  readonly steady_ms: number;
  /** The pause before the second restart in a row; it doubles with each further one. */
  readonly backoff_first_ms: number;
  readonly backoff_max_ms: number;
}

export const DEFAULT_POLICY: ChildPolicy = {
  start_ms: 60_000,
  drain_ms: 15_000, // An actor bounds its own drain at 10 s and its stop at 5 s.
  steady_ms: 10_000,
  backoff_first_ms: 250,
  backoff_max_ms: 8_000,
};

/** Deaths in a row from which on the child is said to be in a crash loop. */
const CRASH_LOOP_DEATHS = 4;

/** What a child tells about itself: `http_url` of the master, `url` of the bus. */
export type ChildDetails = Readonly<Record<string, string>>;

/** From the port: what happens to the process. */
export type ProcessEvent =
  | { readonly type: 'process.spawned'; readonly pid: number }
  | { readonly type: 'process.ready'; readonly details: ChildDetails }
  /** What keeps a running process from its work; null when that is over. */
  | { readonly type: 'process.trouble'; readonly trouble: string | null }
  | { readonly type: 'process.exited'; readonly reason: string };

/** To the port: what should happen to the process. */
export type ProcessCommand = { readonly type: 'process.terminate' | 'process.kill' };

/** `details` are those of the last life, so that a server can come back under its old address. */
export interface ProcessInput {
  readonly details: ChildDetails;
}

export interface ChildContext {
  readonly policy: ChildPolicy;
  readonly pid: number | null;
  readonly restarts: number;
  /** Deaths in a row. */
  readonly deaths: number;
  /** Why it died last. */
  readonly reason: string | null;
  /** What keeps it from its work now (M5). */
  readonly trouble: string | null;
  readonly details: ChildDetails;
}

export type ChildEvent = ProcessEvent | { readonly type: 'child.start' | 'child.stop' };

/** The pause before the next start after so many deaths in a row (M1). */
export function restartPauseMs(deaths: number, policy: ChildPolicy): number {
  if (deaths <= 1) return 0;
  return Math.min(policy.backoff_max_ms, policy.backoff_first_ms * 2 ** Math.min(deaths - 2, 30));
}

export const childMachine = setup({
  types: {
    context: {} as ChildContext,
    events: {} as ChildEvent,
    input: {} as ChildPolicy,
  },
  actors: {
    process: fromCallback<ProcessCommand, ProcessInput, ProcessEvent>(() => {
      throw new Error('port not provided: process');
    }),
  },
  delays: {
    start: ({ context }) => context.policy.start_ms,
    drain: ({ context }) => context.policy.drain_ms,
    steady: ({ context }) => context.policy.steady_ms,
    restart: ({ context }) => restartPauseMs(context.deaths, context.policy),
  },
  actions: {
    notePid: assign((_, params: { readonly pid: number }) => ({ pid: params.pid })),
    noteDetails: assign((_, params: { readonly details: ChildDetails }) => ({
      details: params.details,
    })),
    noteTrouble: assign((_, params: { readonly trouble: string | null }) => params),
    noteDeath: assign(({ context }, params: { readonly reason: string }) => ({
      pid: null,
      trouble: null,
      reason: params.reason,
      deaths: context.deaths + 1,
      restarts: context.restarts + 1,
    })),
    noteEnd: assign({ pid: null, trouble: null }),
    noteLate: assign({ reason: 'it did not become ready in time' }),
    forgetDeaths: assign({ deaths: 0 }),
    terminate: sendTo('process', { type: 'process.terminate' } as const),
    kill: sendTo('process', { type: 'process.kill' } as const),
  },
}).createMachine({
  id: 'child',
  context: ({ input }) => ({
    policy: input,
    pid: null,
    restarts: 0,
    deaths: 0,
    reason: null,
    trouble: null,
    details: {},
  }),
  initial: 'cold',
  states: {
    cold: { on: { 'child.start': 'alive', 'child.stop': 'stopped' } },
    alive: {
      invoke: {
        id: 'process',
        src: 'process',
        input: ({ context }) => ({ details: context.details }),
        onError: {
          target: 'backoff',
          actions: {
            type: 'noteDeath',
            params: ({ event }) => ({ reason: String(event.error) }),
          },
        },
      },
      on: {
        'process.spawned': {
          actions: { type: 'notePid', params: ({ event }) => ({ pid: event.pid }) },
        },
        'process.trouble': {
          actions: { type: 'noteTrouble', params: ({ event }) => ({ trouble: event.trouble }) },
        },
        'process.exited': {
          target: 'backoff',
          actions: { type: 'noteDeath', params: ({ event }) => ({ reason: event.reason }) },
        },
        'child.stop': '.stopping',
      },
      initial: 'starting',
      states: {
        starting: {
          after: { start: { actions: ['noteLate', 'kill'] } },
          on: {
            'process.ready': {
              target: 'running',
              actions: { type: 'noteDetails', params: ({ event }) => ({ details: event.details }) },
            },
          },
        },
        running: {
          after: { steady: { actions: 'forgetDeaths' } },
          on: {
            'process.ready': {
              actions: { type: 'noteDetails', params: ({ event }) => ({ details: event.details }) },
            },
          },
        },
        stopping: {
          entry: 'terminate',
          after: { drain: { actions: 'kill' } },
          on: { 'process.exited': '#child.stopped', 'child.stop': {} },
        },
      },
    },
    backoff: { after: { restart: 'alive' }, on: { 'child.stop': 'stopped' } },
    stopped: { entry: 'noteEnd', on: { 'child.start': 'alive' } },
  },
});

export type ChildActor = ActorRefFrom<typeof childMachine>;
export type ChildState = 'cold' | 'starting' | 'running' | 'backoff' | 'stopping' | 'stopped';

/** The state as one word. */
export function childState(snapshot: SnapshotFrom<typeof childMachine>): ChildState {
  const value = snapshot.value;
  return typeof value === 'string' ? value : value.alive;
}

/** True where the child keeps dying (M1). */
export function crashLooping(context: ChildContext): boolean {
  return context.deaths >= CRASH_LOOP_DEATHS;
}
