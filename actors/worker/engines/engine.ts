/**
 * The port to whatever turns messages into text: Ollama, the scaffold generator, later remote APIs.
 *
 * N1: everything takes an AbortSignal; aborting ends the work at the other side too.
 * N2: what fails throws a CodeGodError with a wire code; an engine that is simply absent is not a
 *     failure but an inventory with `available: false` and a reason.
 * N3: the last chunk is `done`. A stream that ends without it has failed.
 * N4: who loads is the host of the models; `generate` is asked for copies that are loaded, with the
 *     context that they are loaded with.
 */
import type { PullProgress, ShowRequest } from '../../../protocol/inference.ts';
import type { ModelProfile } from '../../../protocol/model-profile.ts';
import type { EngineEnvironment } from '../../../protocol/node.ts';

export interface GenerateMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export interface GenerateRequest {
  readonly model: string;
  readonly messages: readonly GenerateMessage[];
  readonly context_tokens: number;
  readonly output_tokens_max: number;
  readonly temperature: number;
  readonly think: boolean;
  /** JSON Schema the answer is constrained to, where the engine can. Never trusted. */
  readonly format?: object;
  /** Seconds that the copy stays after this; -1: for good. */
  readonly keep_alive?: number;
}

export type GenerateChunk =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'thinking'; readonly text: string }
  | {
      readonly kind: 'done';
      /** `length`: the output or the context was full; `repetition`: the engine stopped a loop. */
      readonly reason: 'stop' | 'length' | 'repetition';
      readonly prompt_tokens: number;
      readonly output_tokens: number;
      readonly load_ms: number;
      readonly total_ms: number;
      /** Reading the prompt and writing the answer, where the engine says. */
      readonly prompt_ms?: number | null;
      readonly output_ms?: number | null;
    };

export interface EngineModel {
  readonly name: string;
  readonly digest: string;
  readonly size_bytes: number;
  readonly family: string;
  readonly parameter_size: string;
  readonly quantization: string;
  /** Largest context the model was made for, in tokens. */
  readonly context_max: number;
  readonly loaded: boolean;
  /** Of the loaded instance; null where it is not loaded or nobody knows. */
  readonly vram_bytes: number | null;
  readonly ram_bytes: number | null;
  readonly context_tokens: number | null;
  readonly capabilities: string[];
  readonly profile?: ModelProfile;
  /** Ms since the epoch: when the file came, and when the copy that is loaded goes by itself. */
  readonly modified_at?: number;
  readonly expires_at?: number;
  /** Where they are not `gguf`, and not the family alone. */
  readonly format?: string;
  readonly families?: string[];
  /** Requests that one copy answers at once. */
  readonly slots?: number;
}

export interface EngineInventory {
  readonly available: boolean;
  readonly version: string | null;
  /** Why it is not available. */
  readonly reason: string | null;
  readonly models: readonly EngineModel[];
  readonly environment?: EngineEnvironment;
}

/** A copy in the engine's memory, as the engine says. */
export interface RunningCopy {
  readonly model: string;
  readonly vram_bytes: number | null;
  readonly ram_bytes: number | null;
  readonly context_tokens: number | null;
  readonly expires_at?: number;
}

export interface LoadOptions {
  readonly context_tokens: number;
  readonly keep_alive?: number;
  /** Told how far it has got, 0…1, where somebody can see. */
  readonly onFraction?: (fraction: number | null) => void;
}

export interface Engine {
  readonly name: 'ollama' | 'scaffold' | 'anthropic' | 'openai';
  inventory(signal: AbortSignal): Promise<EngineInventory>;
  /** Answers with what was really allocated; null where the engine does not say. */
  load(model: string, options: LoadOptions, signal: AbortSignal): Promise<RunningCopy | null>;
  /** Resolves when the engine does not have it in memory any more. */
  unload(model: string, signal: AbortSignal): Promise<void>;
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<GenerateChunk>;
  /** All it says of a model, as it says it; absent where it says nothing. */
  show?(request: ShowRequest, signal: AbortSignal): Promise<object>;
  /** Fetches a model; absent where the engine fetches none. */
  pull?(model: string, signal: AbortSignal): AsyncIterable<PullProgress>;
}
