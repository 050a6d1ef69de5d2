/**
 * What the master asks of the world, as interfaces. Adapters answer; tests answer by hand.
 * Every call may be repeated with the same arguments: the effect happens once.
 */
import type { BuildId, GatewayId, LeaseId, NodeId, StampedBuild } from '../../protocol/ids.ts';
import type { LeaseAdvert, ReserveReply, ReserveRequest } from '../../protocol/node.ts';
import type { TaskMessage } from '../../protocol/task.ts';
import type {
  ArchiveReply,
  CheckReply,
  CheckRequest,
  CreateWorkspaceReply,
  CreateWorkspaceRequest,
  MergeReply,
  MergeRequest,
} from '../../protocol/workspace.ts';
import type { NodeView } from '../../scheduling/node-view.ts';
import type { Pool } from './pool/pool.ts';

/** Gateways: tools and workspaces. */
export interface GatewayPort {
  /** Names `server.tool` of all live tools. */
  tools(gateway: GatewayId, signal: AbortSignal): Promise<readonly string[]>;
  create(
    gateway: GatewayId,
    request: CreateWorkspaceRequest,
    signal: AbortSignal,
  ): Promise<CreateWorkspaceReply>;
  merge(gateway: GatewayId, request: MergeRequest, signal: AbortSignal): Promise<MergeReply>;
  check(gateway: GatewayId, request: CheckRequest, signal: AbortSignal): Promise<CheckReply>;
  archive(gateway: GatewayId, build: StampedBuild, signal: AbortSignal): Promise<ArchiveReply>;
  /** Removes what attempts left behind. */
  finish(gateway: GatewayId, build: StampedBuild, signal: AbortSignal): Promise<void>;
}

export interface AttemptKey extends StampedBuild {
  readonly task: TaskMessage['task'];
  readonly attempt: number;
}

/** Workers. */
export interface NodePort {
  reserve(node: NodeId, request: ReserveRequest): Promise<ReserveReply>;
  release(node: NodeId, lease: LeaseId): Promise<void>;
  /** Hands the task over. One message per attempt: what is there already counts as handed over. */
  dispatch(message: TaskMessage): Promise<void>;
  /** Takes back a message that has not been read, and stops an attempt that runs. */
  withdraw(node: NodeId, attempt: AttemptKey, signal: AbortSignal): Promise<void>;
  /** Stops an attempt of another build, which had the same number on a store that is no more. */
  stop(node: NodeId, attempt: AttemptKey, signal: AbortSignal): Promise<void>;
}

/** What is known of the nodes now. */
export interface NodesPort {
  views(): readonly NodeView[];
  /** Gateways that are ready, the nearest first. */
  gateways(): readonly GatewayId[];
  /** Which start and connection of a gateway's process is heard of; null where none is. */
  gatewayLife(gateway: GatewayId): string | null;
  /** Counts a lease that was granted until the node's own advert shows it. */
  granted(node: NodeId, lease: LeaseAdvert): void;
  /** Its attempt is over: it takes no room any more, whatever the node's last advert says. */
  released(node: NodeId, lease: LeaseId): void;
  /** By the clock that stamps what was seen: nobody puts it back. */
  now(): number;
  /** When its worker was last heard of, by that clock; 0 for never. */
  heardAt(node: NodeId): number;
  onChange(listener: () => void): () => void;
}

/** The queue before all nodes. */
export type PoolPort = Pick<
  Pool,
  'acquire' | 'again' | 'cancel' | 'handedOver' | 'failed' | 'preview'
>;

/** Who may begin. */
export interface AdmissionPort {
  /** Resolves when it is this build's turn. */
  admit(build: BuildId, signal: AbortSignal): Promise<void>;
}
