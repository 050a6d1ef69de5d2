/**
 * What a dialect is: a pure function from a client's request to the native one, together with the
 * way back for the bytes of the answer. It knows neither engine nor bus nor time.
 *
 * D1: what cannot be done is refused with a sentence before anything is done; what only hints or
 *     names is let go. Nothing that would change an answer is dropped in silence.
 * D2: what a node decides (context, batch, GPU layers) is not the client's to say: it would load the
 *     model again under everybody else. How long the model stays is the client's to wish.
 */
import type { CodeGodError } from '../../../protocol/errors.ts';
import type { RequestId } from '../../../protocol/inference.ts';
import { nameIn, sameModel } from '../../../scheduling/model-names.ts';
import type { Fields } from './fields.ts';
import type { Figures, NativePath } from './native.ts';

/** What is known of a model; null where nobody knows. */
export interface ModelFacts {
  readonly capabilities: readonly string[] | null;
  readonly family: string | null;
}

export interface Asked {
  readonly request: RequestId;
  /** As the engine spells it. */
  readonly model: string;
  readonly facts: ModelFacts;
  /** Seconds since the epoch. */
  readonly created: number;
}

export interface Translation {
  readonly path: NativePath;
  /** The name to ask the engine for. */
  readonly model: string;
  /** The native request without what the node decides. */
  readonly body: Fields;
  readonly options: Fields;
  readonly stream: boolean;
  /** Seconds that the model is wished to stay; -1: for good. */
  readonly keep_alive?: number;
  /** Wishes of the client that are not the client's to say (D2). */
  readonly ignored: readonly string[];
  readonly answer: Answer;
}

/**
 * The way back. `take` gets the engine's bytes as they come, whole where the answer is not streamed;
 * what it gives are bytes of the client's answer. A line that tells an error is thrown.
 */
export interface Answer {
  /** Null: as the engine says. */
  readonly contentType: string | null;
  take(bytes: Buffer): Buffer | string;
  /** @throws CodeGodError `engine_failed` where the answer is not complete. */
  end(): string;
  /** How a client of this dialect is told of a failure after the first byte. */
  failure(error: CodeGodError): string;
  /** From the last line; null as long as there was none. */
  readonly figures: Figures | null;
}

/**
 * The name that an answer tells: that of the model that spoke, spelled as the client spelled it where
 * that is the same one, as Ollama does. An alias and `auto` are told as what they stood for.
 */
export function toldName(body: Fields, { model }: Pick<Asked, 'model'>): string {
  const said = nameIn(body);
  return said !== null && sameModel(said, model) ? said : model;
}

export type DialectTranslator = (body: Fields, asked: Asked) => Translation;
