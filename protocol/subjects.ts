/**
 * Every subject of the bus, in one namespace: verb first, then identity.
 * Systems that share a server are kept apart by accounts of that server, not by prefixes.
 */
import {
  Attempt,
  attemptKey,
  type BuildId,
  buildOfKey,
  type GatewayId,
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

/**
 * The node stands in it, so that the server lets each one report for itself only; and the stamp of the
 * build, so that a late report of another build of its number does not take the place of its own.
 */
export const reportSubject = (node: NodeId, scope: StampedAttempt): string =>
  `codegod.report.${node}.${attemptKey(scope)}`;
/** As the release before this one wrote it. */
export const namelessReportSubject = (build: BuildId, task: TaskId, attempt: Attempt): string =>
  `codegod.report.${build}.${task}.${attempt}`;
export const REPORTS = 'codegod.report.>';
/** All that a node may report. */
export const reportsOf = (node: NodeId): string => `codegod.report.${node}.*.*.*`;

export interface ReportedAttempt extends StampedAttempt {
  /** Null where the subject does not name it. */
  readonly node: NodeId | null;
}

/** Which attempt a report's subject names; null where it is the subject of no report. */
export function reportedAttempt(subject: string): ReportedAttempt | null {
  const [, , ...tokens] = subject.split('.');
  const [key = '', task, attempt] = tokens.slice(-3);
  const build = buildOfKey(key);
  const node = tokens.length === 4 ? NodeId.safeParse(tokens[0]) : null;
  if (tokens.length !== 3 && node?.success !== true) return null;
  const parsed = {
    task: TaskId.safeParse(task),
    attempt: Attempt.safeParse(Number(attempt)),
  };
  if (build === null || !parsed.task.success || !parsed.attempt.success) return null;
  return {
    node: node?.data ?? null,
    ...build,
    task: parsed.task.data,
    attempt: parsed.attempt.data,
  };
}

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

export const deadSubject = (stream: string): string => `codegod.dead.${stream.toLowerCase()}`;

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
