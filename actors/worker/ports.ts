/**
 * What an attempt asks of the world, as interfaces. Every call may be repeated with the same
 * arguments: the effect happens once.
 */
import type { AttemptScope, CallReply, CallRequest, ToolDescription } from '../../protocol/mcp.ts';
import type { TaskReport } from '../../protocol/task.ts';
import type {
  CommitReply,
  CommitRequest,
  ReadFilesReply,
  ReadFilesRequest,
} from '../../protocol/workspace.ts';

/** The gateway that hosts the build's project and the tools. Throws CodeGodError with its codes. */
export interface GatewayPort {
  open(gateway: string, request: AttemptScope, signal: AbortSignal): Promise<void>;
  read(gateway: string, request: ReadFilesRequest, signal: AbortSignal): Promise<ReadFilesReply>;
  /** The live tools of these names, or all of them. */
  tools(
    gateway: string,
    names: readonly string[] | null,
    signal: AbortSignal,
  ): Promise<readonly ToolDescription[]>;
  call(gateway: string, request: CallRequest, signal: AbortSignal): Promise<CallReply>;
  commit(gateway: string, request: CommitRequest, signal: AbortSignal): Promise<CommitReply>;
}

export interface ReportPort {
  /** Resolves once the report is stored. @throws CodeGodError `overloaded` while there is no room */
  send(report: TaskReport): Promise<void>;
}
