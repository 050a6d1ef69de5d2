/**
 * Which node an attempt was given to, and what it was to be done with. The proof is its task: only the
 * master may put a message on `codegod.task.<node>.<build>.<task>.<attempt>`, it does so before the
 * worker asks anything, and the message stays there until the attempt is withdrawn.
 *
 * A1: the message itself has to say so too. Where a node may have the server answer, its answers can
 *     be made to land on any subject; what they say cannot be chosen.
 */
import type { z } from 'zod';
import { decode } from '../../../protocol/codec.ts';
import { HEADER } from '../../../protocol/envelope.ts';
import { CodeGodError } from '../../../protocol/errors.ts';
import { attemptKey, NodeId } from '../../../protocol/ids.ts';
import { AttemptScope } from '../../../protocol/mcp.ts';
import { STREAMS } from '../../../protocol/streams.ts';
import { taskSubject } from '../../../protocol/subjects.ts';
import { EngineName } from '../../../protocol/task.ts';
import type { StoredMessage, Streams } from '../../../runtime/bus.ts';

/** Attempts at work are far fewer; those that are over fall out first. */
const KNOWN_MAX = 1_024;

const Given = AttemptScope.extend({ node: NodeId, engine: EngineName });

/** An attempt as it was given to a node. */
export interface GivenAttempt {
  readonly node: NodeId;
  readonly engine: EngineName;
}

/** Null where the attempt was not given to this node. */
export type GivenTo = (scope: AttemptScope, node: NodeId) => Promise<GivenAttempt | null>;

export function attemptNodes(streams: Pick<Streams, 'last'>): GivenTo {
  const known = new Map<string, GivenAttempt>();
  return async (scope, node) => {
    const key = `${node} ${attemptKey(scope)}`;
    const before = known.get(key);
    if (before !== undefined) return before;
    const subject = taskSubject(node, scope.build, scope.task, scope.attempt);
    const message = await streams.last(STREAMS.task.name, subject);
    const task = message === null ? null : readTask(message);
    if (task === null || task.node !== node || !isSame(task, scope)) return null; // A1
    const given = { node, engine: task.engine };
    known.set(key, given);
    for (const oldest of known.keys()) {
      if (known.size <= KNOWN_MAX) break;
      known.delete(oldest);
    }
    return given;
  };
}

const isSame = (task: AttemptScope, scope: AttemptScope): boolean =>
  attemptKey(task) === attemptKey(scope);

function readTask({ body, headers }: StoredMessage): z.infer<typeof Given> | null {
  try {
    return Given.safeParse(decode(body, headers[HEADER.contentType])).data ?? null;
  } catch (error) {
    if (error instanceof CodeGodError) return null; // No task of the master's.
    throw error;
  }
}
