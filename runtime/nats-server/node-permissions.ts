/**
 * What a joined node may do on the bus: what its resource-monitor and its worker need, and nothing
 * else; and what any program of this machine may that shows no key. Lists of subjects, which the
 * server itself enforces.
 *
 * P1  Whatever is not listed is denied.
 * P2  Where a subject can name the node, it names this one.
 * P3  A node creates no consumer on a stream whose content it writes: the server would publish that
 *     content wherever the consumer asks it to, past every permission. It reads by asking.
 * P4  A visitor hands in builds and sees who is there. He steers and follows nothing, and hears no
 *     answer but those to visitors.
 */
import type { NodeId } from '../../protocol/ids.ts';
import { ARTIFACTS, BUCKETS, STREAMS } from '../../protocol/streams.ts';
import {
  advertKey,
  BUILD_SUBJECT,
  deadSubject,
  nodeMcpSubject,
  nodeSubject,
  nodeWorkspaceSubject,
  reportsOf,
  tasksOf,
  telemetrySubject,
} from '../../protocol/subjects.ts';

export interface Permissions {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
  /** Of what may be subscribed, what is kept back. */
  readonly unheard?: readonly string[];
}

/** The server tells a user who he is and what he may. */
export const WHO_AM_I = '$SYS.REQ.USER.INFO';

/**
 * Before the replies that go to a user; he knows his key before he is told his node. Visitors are
 * denied it (P4).
 */
export const inboxOf = (publicKey: string): string => `_INBOX.${publicKey}`;

const ACTORS = ['codegod-resource-monitor', 'codegod-worker'] as const;
const READ_STREAMS = [
  ...[BUCKETS.node, BUCKETS.policy, BUCKETS.server].map(({ name }) => `KV_${name}`),
  // Requests that are too large for a message.
  `OBJ_${ARTIFACTS.name}`,
];

export function nodePermissions(node: NodeId, publicKey: string): Permissions {
  const task = STREAMS.task.name;
  const consumer = `worker-${node}`;
  return {
    publish: [
      WHO_AM_I,
      telemetrySubject(node),
      ...(['capacity', 'runtime'] as const).map(
        kind => `$KV.${BUCKETS.node.name}.${advertKey(node, kind)}`,
      ),
      // Its worker asks its monitor.
      nodeSubject(node, 'measure'),
      reportsOf(node),
      deadSubject(task, node),
      // The tools and workspaces of the house, as an attempt needs them, in its own name.
      ...(['list', 'call'] as const).map(verb => nodeMcpSubject('*', verb, node)),
      ...(['open', 'read', 'commit'] as const).map(verb => nodeWorkspaceSubject('*', verb, node)),
      // Its own tasks. The filter is part of the subject, so the server holds it to them.
      `$JS.API.CONSUMER.CREATE.${task}.${consumer}.${tasksOf(node)}`,
      `$JS.API.CONSUMER.MSG.NEXT.${task}.${consumer}`,
      `$JS.API.CONSUMER.RESET.${task}.${consumer}`,
      `$JS.ACK.${task}.${consumer}.>`,
      ...READ_STREAMS.flatMap(name => [
        `$JS.API.STREAM.INFO.${name}`,
        `$JS.API.STREAM.MSG.GET.${name}`,
      ]),
    ],
    subscribe: [
      `${inboxOf(publicKey)}.>`,
      `codegod.node.${node}.*`,
      `$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.${task}.${consumer}`,
      '$SRV.*',
      ...ACTORS.flatMap(name => [`$SRV.*.${name}`, `$SRV.*.${name}.*`]),
    ],
  };
}

/**
 * @param inboxes of everybody else. They are denied by name: the server takes a subscription to
 * `_INBOX.>` for one that `_INBOX.*` allows, and only keeps back what is denied.
 */
export const visitorPermissions = (inboxes: readonly string[]): Permissions => ({
  publish: [
    BUILD_SUBJECT,
    ...['PING', 'INFO', 'STATS'].flatMap(verb => [`$SRV.${verb}`, `$SRV.${verb}.>`]),
  ],
  subscribe: ['_INBOX.>'],
  unheard: inboxes.map(inbox => `${inbox}.>`),
});

/** The node whose permissions these are; null where they are not those of a joined node. */
export function nodeOf(subscribe: readonly string[]): string | null {
  for (const subject of subscribe) {
    const node = /^codegod\.node\.([a-z0-9-]+)\.\*$/.exec(subject)?.[1];
    if (node !== undefined) return node;
  }
  return null;
}
