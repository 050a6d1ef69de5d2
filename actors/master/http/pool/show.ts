/**
 * `POST /api/show`: what the engine of a node that has the model says of it, whole, since no client's
 * program needs the same few fields as another's.
 *
 * S1: what has one digest never changes: it is asked for once. Texts with every list are megabytes and
 *     are asked for each time.
 * S2: where no node answers, clients get what the adverts say, and no error.
 */
import { toWireError } from '../../../../protocol/errors.ts';
import { SHOWN_LENGTH_MAX, ShownPart, type ShowRequest } from '../../../../protocol/inference.ts';
import { nodeSubject } from '../../../../protocol/subjects.ts';
import type { Logger } from '../../../../runtime/log.ts';
import type { Messenger } from '../../../../runtime/messages.ts';
import type { Holder } from '../../pool/model-directory.ts';
import { type Entry, ollamaShow } from './catalog.ts';

const ANSWER_MS = 30_000;
/** Nodes that are asked before the adverts have to do. */
const NODES_MAX = 3;
const KEPT_MAX = 128;
/** Licenses and templates: tens of kilobytes each. */
const KEPT_LENGTH_MAX = 262_144;

export interface ShowOptions {
  readonly messenger: Pick<Messenger, 'askStream'>;
  readonly log: Logger;
}

export class ModelShows {
  readonly #options: ShowOptions;
  /** The one asked for longest ago is first. */
  readonly #kept = new Map<string, object>();

  constructor(options: ShowOptions) {
    this.#options = options;
  }

  async show(entry: Entry, verbose: boolean, signal: AbortSignal): Promise<object> {
    const shown = verbose ? null : this.#recall(keyOf(entry.model));
    const whole = shown ?? (await this.#ask(entry, verbose, signal));
    if (whole === null) return ollamaShow(entry);
    return { ...whole, nodes: entry.holders.map(({ node }) => node) };
  }

  /** S2: null where nobody answers. */
  async #ask({ holders }: Entry, verbose: boolean, signal: AbortSignal): Promise<object | null> {
    for (const holder of holders.slice(0, NODES_MAX)) {
      try {
        const text = await this.#textOf(holder, verbose, signal);
        const shown = JSON.parse(text) as object;
        if (!verbose && text.length <= KEPT_LENGTH_MAX) this.#keep(keyOf(holder.model), shown);
        return shown;
      } catch (error) {
        const { node, model } = holder;
        this.#options.log.info('model.not_shown', {
          node,
          model: model.name,
          error: toWireError(error),
        });
        if (signal.aborted) throw error;
      }
    }
    return null;
  }

  async #textOf({ node, model }: Holder, verbose: boolean, signal: AbortSignal): Promise<string> {
    const request: ShowRequest = { model: model.name, verbose };
    const waits = { first_ms: ANSWER_MS, idle_ms: ANSWER_MS, signal };
    const parts: string[] = [];
    let length = 0;
    const subject = nodeSubject(node, 'show');
    for await (const { text } of this.#options.messenger.askStream(
      subject,
      request,
      ShownPart,
      waits,
    )) {
      length += text.length;
      if (length > SHOWN_LENGTH_MAX) break; // What is cut off is no JSON.
      parts.push(text);
    }
    return parts.join('');
  }

  #recall(key: string): object | null {
    const kept = this.#kept.get(key) ?? null;
    if (kept !== null) this.#keep(key, kept);
    return kept;
  }

  #keep(key: string, shown: object): void {
    this.#kept.delete(key);
    this.#kept.set(key, shown);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > KEPT_MAX && oldest !== undefined) this.#kept.delete(oldest);
  }
}

/** The answer holds the name too. */
const keyOf = ({ name, digest }: Holder['model']): string => `${digest} ${name}`;
