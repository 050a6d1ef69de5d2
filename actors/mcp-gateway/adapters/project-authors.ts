/**
 * Who wrote a project, as this gateway itself has seen it: nothing but the scaffold engine of this
 * machine, or somebody else too. Without a sandbox only the former is run.
 *
 * P1: a project counts as ours from its creation until the first commit of anybody else is taken, and
 *     never again. What nothing is known of is not ours.
 * P2: a node's word is not asked: which engine an attempt was given is in the master's task, and what
 *     another machine sends may be anything.
 */
import { buildKey, type NodeId, type StampedBuild } from '../../../protocol/ids.ts';
import type { Journal } from '../../../runtime/journal.ts';
import { GATEWAY_KEYS } from '../../../runtime/journal-keys.ts';
import type { GivenAttempt } from './attempt-nodes.ts';

export interface ProjectAuthors {
  /** Before the project is made. */
  begins(build: StampedBuild): Promise<void>;
  /** Before a commit is taken. */
  writes(build: StampedBuild, by: GivenAttempt): Promise<void>;
  isOurs(build: StampedBuild): Promise<boolean>;
}

export function projectAuthors(journal: Pick<Journal, 'get' | 'put'>, own: NodeId): ProjectAuthors {
  const keyOf = (build: StampedBuild): string => `${GATEWAY_KEYS.authors}${buildKey(build)}`;
  return {
    async begins(build) {
      if ((await journal.get(keyOf(build))) === undefined) await journal.put(keyOf(build), true);
    },
    async writes(build, { node, engine }) {
      if (node === own && engine === 'scaffold') return;
      if ((await journal.get(keyOf(build))) !== false) await journal.put(keyOf(build), false);
    },
    isOurs: async build => (await journal.get(keyOf(build))) === true,
  };
}
