/**
 * Which node an attempt was given to. The proof is its task: only the master may put a message on the
 * subject `codegod.task.<node>.<build>.<task>.<attempt>`, it does so before the worker asks anything,
 * and the message stays there until the attempt is withdrawn.
 */
import type { NodeId } from '../../../protocol/ids.ts';
import type { AttemptScope } from '../../../protocol/mcp.ts';
import { STREAMS } from '../../../protocol/streams.ts';
import { taskSubject } from '../../../protocol/subjects.ts';
import type { Streams } from '../../../runtime/bus.ts';

/** Attempts at work are far fewer; those that are over fall out first. */
const KNOWN_MAX = 1_024;

export function attemptNodes(
  streams: Pick<Streams, 'last'>,
): (scope: AttemptScope, node: NodeId) => Promise<boolean> {
  const known = new Set<string>();
  return async ({ build, task, attempt }, node) => {
    const subject = taskSubject(node, build, task, attempt);
    if (known.has(subject)) return true;
    if ((await streams.last(STREAMS.task.name, subject)) === null) return false;
    known.add(subject);
    for (const oldest of known) {
      if (known.size <= KNOWN_MAX) break;
      known.delete(oldest);
    }
    return true;
  };
}
