/**
 * Every subject of the bus, in one namespace: verb first, then identity.
 * Systems that share a server are kept apart by accounts of that server, not by prefixes.
 */
import { z } from 'zod';
import {
  Attempt,
  attemptKey,
  type BuildId,
  buildOfKey,
  type GatewayId,
  type LeaseId,
  NodeId,
  type StampedAttempt,
  TaskId,
} from './ids.ts';

export const BUILD_SUBJECT = 'codegod.build';

export const controlSubject = (build: BuildId | '*'): string => `codegod.control.build.${build}`;

/** `type` is that of the fact, so that a subject's tail reads like the event of the machine. */
export const eventSubject = (build: BuildId | '*', type: string): string =>
  `codegod.event.${build}.${type}`;
/** All facts of one build: the filter of its optimistic lock. */
export const eventsOf = (build: BuildId | '*'): string => `codegod.event.${build}.>`;

export const taskSubject = (node: NodeId, build: BuildId, task: TaskId, attempt: Attempt): string =>
  `codegod.task.${node}.${build}.${task}.${attempt}`;
export const tasksOf = (node: NodeId): string => `codegod.task.${node}.>`;

/** The node stands in it, so that the server lets each one report for itself only. */
export const reportSubject = (node: NodeId, scope: StampedAttempt): string =>
  `codegod.report.${node}.${attemptKey(scope)}`;
export const REPORTS = 'codegod.report.>';
/** All that a node may report. */
export const reportsOf = (node: NodeId): string => `codegod.report.${node}.*.*.*`;
/** The stream keeps all reports of a node under its name, so that it can count them. */
export const REPORTS_STORED_AS = {
  from: 'codegod.report.*.*.*.*',
  to: 'codegod.report.{{wildcard(1)}}',
} as const;

/**
 * The node that speaks on the subject of a report, or is spoken to on that of a task; null on others,
 * and for reports of a release that did not name it.
 */
export function nodeOnSubject(subject: string): NodeId | null {
  const [root, area, name, ...rest] = subject.split('.');
  const named = area === 'task' || (area === 'report' && rest.length !== 2);
  if (root !== 'codegod' || !named) return null;
  return NodeId.safeParse(name).data ?? null;
}

/**
 * Of the message that holds a report, whatever else is in it. The lease is known to none but the node
 * and the master, so that nobody else can use the id up before them.
 */
export const reportMessageId = (scope: StampedAttempt, lease: LeaseId): string =>
  `report:${attemptKey(scope)}:${lease}`;

/** Which attempt a report is on by the id of its message, also one of an earlier release. */
export function reportedAttempt(messageId: string): StampedAttempt | null {
  const [what, key = ''] = messageId.split(':');
  const [builds = '', task, attempt, ...more] = key.split('.');
  const build = buildOfKey(builds);
  const rest = AttemptOfBuild.safeParse({ task, attempt: Number(attempt) });
  if (what !== 'report' || more.length > 0 || build === null || !rest.success) return null;
  return { ...build, ...rest.data };
}
const AttemptOfBuild = z.object({ task: TaskId, attempt: Attempt });

export type NodeVerb =
  | 'reserve'
  | 'release'
  | 'cancel'
  | 'infer'
  | 'pull'
  | 'show'
  | 'load'
  | 'unload'
  | 'drain'
  | 'measure';
export const nodeSubject = (node: NodeId, verb: NodeVerb): string => `codegod.node.${node}.${verb}`;

export type McpVerb = 'list' | 'status';
export const mcpSubject = (gateway: GatewayId, verb: McpVerb): string =>
  `codegod.mcp.${gateway}.${verb}`;

export type WorkspaceVerb = 'create' | 'merge' | 'check' | 'archive' | 'finish';
export const workspaceSubject = (gateway: GatewayId, verb: WorkspaceVerb): string =>
  `codegod.workspace.${gateway}.${verb}`;

/**
 * What the worker of a node asks a gateway for its attempts. The node stands at the end, so that the
 * server lets each one ask in its own name only; `*` is what the gateway listens to.
 */
export type NodeMcpVerb = 'call' | 'list';
export const nodeMcpSubject = (
  gateway: GatewayId | '*',
  verb: NodeMcpVerb,
  node: NodeId | '*',
): string => `codegod.mcp.${gateway}.${verb}.${node}`;

export type NodeWorkspaceVerb = 'open' | 'read' | 'commit';
export const nodeWorkspaceSubject = (
  gateway: GatewayId | '*',
  verb: NodeWorkspaceVerb,
  node: NodeId | '*',
): string => `codegod.workspace.${gateway}.${verb}.${node}`;

export const telemetrySubject = (node: NodeId | '*'): string => `codegod.telemetry.${node}`;

/** Keys of the KV bucket `codegod_node`. */
export type AdvertKind = 'capacity' | 'runtime' | 'gateway';
export const advertKey = (node: NodeId, kind: AdvertKind): string => `${node}.${kind}`;

/** `node`: the one that spoke, or was spoken to, where there is one. */
export const deadSubject = (stream: string, node: NodeId | null): string =>
  `codegod.dead.${stream.toLowerCase()}${node === null ? '' : `.${node}`}`;

/** Who answers on a subject, in words: people are never told subjects of the system's own. */
export function peerOf(subject: string): string {
  const [root, area, name, verb] = subject.split('.');
  if (root !== 'codegod' || name === undefined) return subject;
  switch (area) {
    case 'node':
      return verb === 'measure' ? `the resource-monitor of ${name}` : `the worker of ${name}`;
    case 'mcp':
    case 'workspace':
      return `the gateway of ${name}`;
    case 'control':
      return 'the master';
    default:
      return subject;
  }
}
