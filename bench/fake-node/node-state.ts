/** What the parts of one fake node share. */
import type { ServerResponse } from 'node:http';
import { notFound } from './api-error.ts';
import type { Caller } from './caller.ts';
import type { Environment } from './environment.ts';
import { type FakeModel, tagged } from './fake-model.ts';
import type { Faults } from './faults.ts';
import type { Memory } from './memory.ts';
import type { Scheduler } from './scheduler.ts';

export interface NodeState {
  readonly version: string;
  readonly environment: Environment;
  readonly memory: Memory;
  readonly scheduler: Scheduler;
  readonly faults: Faults;
  readonly timeScale: number;
  readonly seed: number;
  /** On disk, by their names in small letters. */
  readonly models: Map<string, FakeModel>;
  /** To be pulled. */
  readonly registry: Map<string, FakeModel>;
  /** Of a pull. */
  readonly pullBytesPerS: number;
  readonly counters: Counters;
  die(): void;
}

export interface Counters {
  /** For tokens or embeddings; those that only load are not among them. */
  requests: number;
  answered: number;
  failed: number;
  hung_up: number;
  output_tokens: number;
  in_flight: number;
  max_in_flight: number;
}

export type Body = Record<string, unknown>;

/** One request and its answer. */
export interface Exchange {
  readonly path: string;
  readonly body: Body;
  readonly response: ServerResponse;
  readonly caller: Caller;
}

export function findModel(state: NodeState, name: string): FakeModel {
  const found = state.models.get(tagged(name).toLowerCase());
  if (found === undefined) throw notFound(name);
  return found;
}

export const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

export const recordOf = (value: unknown): Body =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Body) : {};
