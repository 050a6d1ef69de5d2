/**
 * A small durable machine for tests of the host, and a world in which it can be killed at any step.
 *
 * The machine keeps a list of errands. An errand that is asked for is pending until its effect says
 * what it brought; one with a limit is given up when that passes; a withdrawn one may be asked again. It can be paused, and remembers
 * what it did before (a history state). `blow.up` makes it throw.
 */
import { assign, setup } from 'xstate';
import type { DurableContext } from '../runtime/durable-fold.ts';
import type { Journal } from '../runtime/journal.ts';

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

/** Kills a process at its n-th look at the world: right before the work or right after it. */
export class Mortality {
  #stepsLeft: number;
  readonly #when: 'before' | 'after';
  readonly dead: Promise<void>;
  #die: () => void = () => {};
  #isDead = false;

  constructor(stepsLeft: number, when: 'before' | 'after') {
    this.#stepsLeft = stepsLeft;
    this.#when = when;
    this.dead = new Promise(resolve => {
      this.#die = resolve;
    });
  }

  /** From the death on nothing ever comes back, as in a killed process. */
  async step<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isDead) return await never();
    this.#stepsLeft -= 1;
    const isLast = this.#stepsLeft <= 0;
    if (isLast) this.#isDead = true;
    if (isLast && this.#when === 'before') return await this.#end();
    const result = await work();
    return isLast ? await this.#end() : this.#isDead ? await never() : result;
  }

  journal(journal: Journal): Journal {
    const step = <T>(work: () => Promise<T>): Promise<T> => this.step(work);
    return {
      get: key => step(() => journal.get(key)),
      put: (key, value) => step(() => journal.put(key, value)),
      batch: operations => step(() => journal.batch(operations)),
      async *entries(prefix, after) {
        for await (const entry of journal.entries(prefix, after))
          yield await step(async () => entry);
      },
      close: () => step(() => journal.close()),
    };
  }

  async #end(): Promise<never> {
    this.#die();
    return await never();
  }
}

const never = (): Promise<never> => new Promise(() => {});
