/**
 * Every subject of the bus, in one namespace: verb first, then identity.
 * Systems that share a server are kept apart by accounts of that server, not by prefixes.
 */
import type { Attempt, BuildId, GatewayId, NodeId, TaskId } from './ids.ts';

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

export const reportSubject = (build: BuildId, task: TaskId, attempt: Attempt): string =>
  `codegod.report.${build}.${task}.${attempt}`;
export const REPORTS = 'codegod.report.>';

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

export type McpVerb = 'call' | 'list' | 'status';
export const mcpSubject = (gateway: GatewayId, verb: McpVerb): string =>
  `codegod.mcp.${gateway}.${verb}`;

export type WorkspaceVerb =
  | 'create'
  | 'open'
  | 'read'
  | 'commit'
  | 'merge'
  | 'check'
  | 'archive'
  | 'finish';
export const workspaceSubject = (gateway: GatewayId, verb: WorkspaceVerb): string =>
  `codegod.workspace.${gateway}.${verb}`;

export const telemetrySubject = (node: NodeId | '*'): string => `codegod.telemetry.${node}`;

/** Keys of the KV bucket `codegod_node`. */
export type AdvertKind = 'capacity' | 'runtime' | 'gateway';
export const advertKey = (node: NodeId, kind: AdvertKind): string => `${node}.${kind}`;

export const deadSubject = (stream: string): string => `codegod.dead.${stream.toLowerCase()}`;
