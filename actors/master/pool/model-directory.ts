/**
 * Which models there are, over all nodes: names as clients write them become names as inventories
 * spell them.
 *
 * D1: a model is known for a while after the last node that had it fell silent, so that a restart
 *     makes clients wait and not fail; one whose engine is away is known as long as its node says so.
 * D2: only engines that answer clients directly count.
 */
import { CodeGodError } from '../../../protocol/errors.ts';
import type { NodeId } from '../../../protocol/ids.ts';
import type { ModelAdvert } from '../../../protocol/node.ts';
import type { EngineName } from '../../../protocol/task.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { canonicalModelName, nearestName, resolveAlias } from '../../../scheduling/model-names.ts';
import { spellingsOf } from '../../../scheduling/model-spellings.ts';
import type { NodesPort } from '../ports.ts';

/** D2 */
export const DIRECT_ENGINES: readonly EngineName[] = ['ollama'];
/** The best there is. */
export const AUTO = 'auto';

/** D1 */
const REMEMBERED_MS = 600_000;
const REMEMBERED_MAX = 4_096;

export interface Holder {
  readonly node: NodeId;
  readonly engine: EngineName;
  readonly model: ModelAdvert;
}

export interface DirectoryOptions {
  readonly nodes: Pick<NodesPort, 'views' | 'onChange'>;
  /** As configured now: the same object as long as nothing has changed. */
  readonly aliases: () => Readonly<Record<string, string>>;
  readonly clock: Clock;
}

export class ModelDirectory {
  readonly #options: DirectoryOptions;
  /** By canonical name; null where an advert has changed since. */
  #models: ReadonlyMap<string, readonly Holder[]> | null = null;
  /** Canonical names, as they were spelled, and when they were last seen. */
  readonly #remembered = new Map<string, { readonly name: string; readonly at: number }>();
  /** Names as written by clients, resolved: most of them come again. */
  readonly #resolved = new Map<string, string | null>();
  #resolvedBy: object | null = null;

  constructor(options: DirectoryOptions) {
    this.#options = options;
    options.nodes.onChange(() => {
      this.#models = null;
      this.#resolved.clear();
    });
  }

  /** Who has which model, by canonical name, in the order of names. */
  models(): ReadonlyMap<string, readonly Holder[]> {
    this.#models ??= this.#read();
    return this.#models;
  }

  /** Nodes that have a model; of `null` any model. */
  holders(name: string | null): readonly Holder[] {
    if (name !== null) return this.models().get(canonicalModelName(name)) ?? [];
    return [...this.models().values()].flat();
  }

  /** Names that are no model's own: `auto` and those configured, as far as they lead to a model. */
  furtherNames(): readonly string[] {
    const names = [AUTO, ...Object.keys(this.#options.aliases())];
    return names.filter(name => !this.models().has(canonicalModelName(name)) && this.#leads(name));
  }

  /**
   * A name as a client wrote it → a name as an inventory spells it; null for `auto`.
   * @throws CodeGodError `model_missing` naming the nearest one
   */
  resolve(name: string): string | null {
    const aliases = this.#options.aliases();
    if (aliases !== this.#resolvedBy) this.#resolved.clear();
    this.#resolvedBy = aliases;
    const known = this.#resolved.get(name);
    if (known !== undefined) return known;
    const models = this.models();
    // `auto` is found as null; only a name that nobody has may be an alias or misspelled.
    const spellings = [name, resolveAlias(name, aliases), ...spellingsOf(name, aliases)];
    const resolved = spellings
      .map(spelling => this.#find(spelling, models))
      .find(found => found !== undefined);
    if (resolved === undefined) throw this.#unknown(name);
    if (this.#resolved.size < REMEMBERED_MAX) this.#resolved.set(name, resolved);
    return resolved;
  }

  #leads(name: string): boolean {
    try {
      return this.holders(this.resolve(name)).length > 0;
    } catch (error) {
      if (error instanceof CodeGodError && error.code === 'model_missing') return false;
      throw error;
    }
  }

  #find(name: string, models: ReadonlyMap<string, readonly Holder[]>): string | null | undefined {
    if (name === AUTO) return models.size === 0 ? undefined : null;
    const canonical = canonicalModelName(name);
    const held = models.get(canonical)?.[0]?.model.name;
    if (held !== undefined) return held;
    const remembered = this.#remembered.get(canonical);
    if (remembered === undefined) return undefined;
    return this.#options.clock.now() - remembered.at > REMEMBERED_MS ? undefined : remembered.name;
  }

  #unknown(name: string): CodeGodError {
    const names = [...this.models().values()].flatMap(holders => holders[0]?.model.name ?? []);
    const shown = name.slice(0, 128);
    const nearest = nearestName(shown, [...names, ...Object.keys(this.#options.aliases())]);
    if (nearest === null) {
      return new CodeGodError(
        'model_missing',
        `model '${shown}' not found: no model is installed`,
        {
          hint: 'pull one: `codegod models pull NAME`',
        },
      );
    }
    return new CodeGodError(
      'model_missing',
      `model '${shown}' not found, did you mean '${nearest}'?`,
      {
        hint: 'GET /v1/models lists what is installed; `codegod models pull NAME` brings more',
        details: { nearest },
      },
    );
  }

  #read(): ReadonlyMap<string, readonly Holder[]> {
    const models = new Map<string, Holder[]>();
    const known = new Map<string, string>();
    for (const { node, runtime } of this.#options.nodes.views()) {
      for (const engine of runtime?.advert.engines ?? []) {
        if (!DIRECT_ENGINES.includes(engine.name)) continue;
        for (const model of engine.models) {
          const canonical = canonicalModelName(model.name);
          if (!engine.available) {
            known.set(canonical, model.name);
            continue;
          }
          const holders = models.get(canonical) ?? [];
          holders.push({ node, engine: engine.name, model });
          models.set(canonical, holders);
        }
      }
    }
    for (const [canonical, [first]] of models) {
      if (first !== undefined) known.set(canonical, first.model.name);
    }
    this.#remember(known);
    return new Map([...models].sort(([left], [right]) => (left < right ? -1 : 1)));
  }

  #remember(names: ReadonlyMap<string, string>): void {
    const now = this.#options.clock.now();
    for (const [canonical, name] of names) this.#remembered.set(canonical, { name, at: now });
    for (const [canonical, { at }] of this.#remembered) {
      const isOver = now - at > REMEMBERED_MS || this.#remembered.size > REMEMBERED_MAX;
      if (isOver && !names.has(canonical)) this.#remembered.delete(canonical);
    }
  }
}
