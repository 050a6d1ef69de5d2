/**
 * The pure part of durability: state = fold of a machine's transition over facts.
 *
 * P1  A durable machine is plain: no invoke, no delayed transition, nothing spawned. What it wants
 *     done stands in its context, and what it computes depends on its facts alone.
 * P2  A machine that has ended ignores further facts.
 * P3  A frozen state is plain data and thaws to an equal state, history included.
 */
import assert from 'node:assert/strict';
import {
  type AnyMachineSnapshot,
  type AnyStateMachine,
  type AnyStateNode,
  type ContextFrom,
  type EventFromLogic,
  initialTransition,
  type StateValue,
  transition,
} from 'xstate';

/** Work a machine wants done, and moments it wants to be told of. Both by key. */
export interface DurableContext<E> {
  /** Idempotency key → what to do. */
  readonly pending: Readonly<Record<string, E>>;
  /** Key → ms since the epoch. */
  readonly deadlines: Readonly<Record<string, number>>;
}

export type EffectOf<M extends AnyStateMachine> =
  ContextFrom<M> extends DurableContext<infer E> ? E : never;
export type FactOf<M extends AnyStateMachine> = EventFromLogic<M>;

/** A state as it is kept in a snapshot. */
export interface FrozenState {
  readonly value: StateValue;
  readonly context: unknown;
  /** History states: the ids of the states they remember. */
  readonly history?: Readonly<Record<string, readonly string[]>>;
}

export class MachineFold<M extends AnyStateMachine> {
  readonly #machine: M;

  constructor(machine: M) {
    assertPlain(machine.root);
    this.#machine = machine;
  }

  initial(entity: string): AnyMachineSnapshot {
    const machine: AnyStateMachine = this.#machine;
    return initialTransition(machine, { entity })[0];
  }

  /** Throws what the machine throws: a bug of the machine. */
  step(snapshot: AnyMachineSnapshot, fact: FactOf<M>): AnyMachineSnapshot {
    if (snapshot.status !== 'active') return snapshot;
    const machine: AnyStateMachine = this.#machine;
    return transition(machine, snapshot, fact)[0];
  }

  freeze(snapshot: AnyMachineSnapshot): FrozenState {
    const remembered = Object.entries(snapshot.historyValue as Record<string, AnyStateNode[]>);
    const history = Object.fromEntries(
      remembered.map(([id, nodes]) => [id, nodes.map(node => node.id)]),
    );
    const { value, context } = snapshot;
    return remembered.length === 0 ? { value, context } : { value, context, history };
  }

  /** Throws where the machine has no such state any more. */
  thaw(frozen: FrozenState): AnyMachineSnapshot {
    const machine = this.#machine;
    const historyValue = Object.fromEntries(
      Object.entries(frozen.history ?? {}).map(([id, nodes]) => [
        id,
        nodes.map(node => machine.getStateNodeById(node)),
      ]),
    );
    const { value, context } = frozen;
    return machine.resolveState({ value, context: context as ContextFrom<M>, historyValue });
  }
}

function assertPlain(node: AnyStateNode): void {
  assert(node.invoke.length === 0, `the durable state ${node.id} must not invoke`);
  assert(node.after.length === 0, `the durable state ${node.id} must not wait with 'after'`);
  for (const child of Object.values(node.states)) assertPlain(child);
}
