/**
 * What those who generate ask of the models in this node's memory: a hold on a loaded copy. Attempts
 * of builds and inferences of the pool take the same kind of hold, so that they share slots fairly.
 */
import type { InferProgress } from '../../protocol/inference.ts';
import type { EngineName } from '../../protocol/task.ts';
import type { Holder, Terms } from './lease.ts';

/** The model however it is spelled; its context is the least, and 0 whatever the copy has. */
export interface UseRequest extends Terms {
  readonly holder: Holder;
  /** Whose share it counts against. */
  readonly share: string;
  readonly priority: number;
  /** Seconds that the copy is wished to stay after this use; -1: for good. The node decides. */
  readonly keep_alive?: number;
}

export interface Hold {
  readonly lease: string;
  readonly engine: EngineName;
  /** As the engine spells it. */
  readonly model: string;
  /** What the engine was asked for when it loaded the copy. Anything else makes it load again. */
  readonly context_tokens: number;
  /** Seconds that the copy stays after a use, to be said with every request; -1: for good. */
  readonly keep_alive?: number;
  /** How long the use waited for a load; 0 where the copy was there. */
  readonly load_ms: number;
  /** Fires when the copy is taken away by force. */
  readonly signal: AbortSignal;
  /** Gives slot and lease back. Twice is once. What was measured teaches the node its speed. */
  release(measured?: Measured): void;
}

/** What an engine said of one answer; figures that it did not say are null. */
export interface Measured {
  readonly prompt_tokens: number | null;
  readonly prompt_ms: number | null;
  readonly output_tokens: number | null;
  readonly output_ms: number | null;
}

/** How fast a model has been seen to read its prompts, and who is told of more. */
export interface ReadingRates {
  /** Tokens per second; null where nobody knows. */
  of(model: string): number | null;
  learn(model: string, measured: Measured): void;
}

export type OnProgress = (progress: InferProgress) => void;

/** What those who generate need of the host. */
export interface ModelLender {
  /**
   * Waits for a slot of the model, loaded. Until then nothing has been done that is not undone.
   * @throws CodeGodError `reservation_refused`, `overloaded`, `model_missing`, `engine_unavailable`,
   *   `engine_failed` where the load failed, `cancelled`.
   */
  use(request: UseRequest, onProgress: OnProgress, signal: AbortSignal): Promise<Hold>;
}
