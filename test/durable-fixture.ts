/**
 * A small durable machine for tests of the host, and hosts of it over a journal in memory.
 *
 * The machine keeps a list of errands. An errand that is asked for is pending until its effect says
 * what it brought; one with a limit is given up when that passes; a withdrawn one may be asked again. It can be paused, and remembers
 * what it did before (a history state). `blow.up` makes it throw.
 */
import { assign, setup } from 'xstate';
import { SimulatedClock } from '../runtime/clock.ts';
import type { DurableContext } from '../runtime/durable-fold.ts';
import { createDurableHost, type DurableHostOptions } from '../runtime/durable-host.ts';
import { type FactLog, LOG_START } from '../runtime/fact-log.ts';
import { createJournalFactLog } from '../runtime/fact-log-journal.ts';
import { type Journal, memoryJournal } from '../runtime/journal.ts';
import { silentLogger } from '../runtime/log.ts';

export interface Errand {
  readonly kind: 'fetch';
  readonly what: string;
}

export type ErrandFact =
  | {
      readonly type: 'errand.asked';
      readonly at: number;
      readonly key: string;
      readonly limit_ms?: number;
    }
  | {
      readonly type: 'errand.done';
      readonly at: number;
      readonly key: string;
      readonly brought: string;
    }
  | {
      readonly type: 'errand.failed';
      readonly at: number;
      readonly key: string;
      readonly code: string;
    }
  | { readonly type: 'errand.withdrawn'; readonly at: number; readonly key: string }
  | { readonly type: 'deadline.passed'; readonly at: number; readonly key: string }
  | { readonly type: 'host.resumed'; readonly at: number }
  | { readonly type: 'pause' | 'resume' | 'end' | 'nobody.knows'; readonly at: number }
  | { readonly type: 'blow.up'; readonly at: number };

export interface ErrandContext extends DurableContext<Errand> {
  readonly entity: string;
  readonly outcomes: Readonly<Record<string, string>>;
  readonly resumed: number;
}

const without = <T>(record: Readonly<Record<string, T>>, key: string): Record<string, T> =>
  Object.fromEntries(Object.entries(record).filter(([name]) => name !== key));

const settled = (context: ErrandContext, key: string, outcome: string): Partial<ErrandContext> =>
  key in context.pending
    ? {
        pending: without(context.pending, key),
        deadlines: without(context.deadlines, key),
        outcomes: { ...context.outcomes, [key]: outcome },
      }
    : {};

export const errandMachine = setup({
  types: {
    context: {} as ErrandContext,
    events: {} as ErrandFact,
    input: {} as { readonly entity: string },
  },
  actions: {
    ask: assign(({ context, event }) => {
      if (event.type !== 'errand.asked') return {};
      const { key, at, limit_ms: limitMs } = event;
      const isOver = key in context.outcomes && context.outcomes[key] !== 'withdrawn';
      if (isOver || key in context.pending) return {};
      return {
        outcomes: without(context.outcomes, key),
        pending: { ...context.pending, [key]: { kind: 'fetch' as const, what: key } },
        deadlines:
          limitMs === undefined ? context.deadlines : { ...context.deadlines, [key]: at + limitMs },
      };
    }),
    settle: assign(({ context, event }) => {
      if (event.type === 'errand.done') return settled(context, event.key, event.brought);
      if (event.type === 'errand.failed') return settled(context, event.key, event.code);
      if (event.type === 'errand.withdrawn') return settled(context, event.key, 'withdrawn');
      if (event.type === 'deadline.passed') return settled(context, event.key, 'too late');
      return {};
    }),
    count: assign(({ context }) => ({ resumed: context.resumed + 1 })),
    explode: assign(() => {
      throw new Error('a bug in the machine');
    }),
  },
}).createMachine({
  id: 'errands',
  context: ({ input }) => ({
    entity: input.entity,
    pending: {},
    deadlines: {},
    outcomes: {},
    resumed: 0,
  }),
  initial: 'open',
  on: {
    'host.resumed': { actions: 'count' },
    'blow.up': { actions: 'explode' },
    'errand.done': { actions: 'settle' },
    'errand.failed': { actions: 'settle' },
    'errand.withdrawn': { actions: 'settle' },
    'deadline.passed': { actions: 'settle' },
    end: '.ended',
  },
  states: {
    open: {
      initial: 'quiet',
      on: { pause: 'paused' },
      states: {
        quiet: { on: { 'errand.asked': { target: 'busy', actions: 'ask' } } },
        busy: { on: { 'errand.asked': { actions: 'ask' } } },
        before: { type: 'history' },
      },
    },
    paused: { on: { resume: 'open.before' } },
    ended: { type: 'final' },
  },
});

export type ErrandHostOptions = DurableHostOptions<typeof errandMachine>;
export type Perform = (key: string, signal: AbortSignal) => Promise<readonly ErrandFact[]>;

/** Goes on until it is aborted. */
export const NEVER: Perform = (_key, signal) =>
  new Promise(resolve => signal.addEventListener('abort', () => resolve([])));

export interface World {
  readonly clock: SimulatedClock;
  readonly journal: Journal;
  readonly log: FactLog<ErrandFact>;
}

export async function world(): Promise<World> {
  const journal = await memoryJournal();
  return { clock: new SimulatedClock(), journal, log: createJournalFactLog(journal) };
}

export function hostIn(
  { clock, journal, log }: World,
  perform: Perform,
  more: Partial<ErrandHostOptions> = {},
) {
  return createDurableHost<typeof errandMachine>({
    machine: errandMachine,
    log,
    snapshots: journal,
    schemaVersion: 1,
    migrations: {},
    clock,
    logger: silentLogger,
    perform: (_entity, key, _effect: Errand, signal) => perform(key, signal),
    failed: (_entity, key, _effect, error, at) => [
      { type: 'errand.failed', at, key, code: error.code },
    ],
    onDeadline: (key, at) => ({ type: 'deadline.passed', at, key }),
    ...more,
  });
}

export const asked = (key: string, limitMs?: number): ErrandFact =>
  limitMs === undefined
    ? { type: 'errand.asked', at: 0, key }
    : { type: 'errand.asked', at: 0, key, limit_ms: limitMs };
export const done = (key: string): ErrandFact => ({
  type: 'errand.done',
  at: 1,
  key,
  brought: `the ${key}`,
});

export async function factsOf(log: FactLog<ErrandFact>, entity: string): Promise<ErrandFact[]> {
  const facts: ErrandFact[] = [];
  for await (const stored of log.read(entity, LOG_START)) facts.push(stored.fact);
  return facts;
}
