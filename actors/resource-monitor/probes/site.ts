/** Where a probe looks: the machine's files under a root, its programs, its memory, its time. */
import type { Findings } from '../card.ts';
import type { RunTool } from './tool.ts';

export interface HostMemory {
  readonly total_bytes: number;
  readonly available_bytes: number;
}

export interface ProbeSite {
  /** What `/sys`, `/proc` and `/usr/share` are read under; empty for the real machine. */
  readonly root: string;
  readonly run: RunTool;
  readonly host: HostMemory;
  readonly now: number;
  /** Fires when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** Looks at one kind of card. Rejects only for a bug: what cannot be read is a problem in words. */
export type Probe = (site: ProbeSite) => Promise<Findings>;
