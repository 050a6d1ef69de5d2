/** What the gateway's bus side asks of its workspaces; the adapter is `adapters/workspace.ts`. */
import type {
  CommitReply,
  CommitRequest,
  CreateWorkspaceReply,
  CreateWorkspaceRequest,
  MergeReply,
  MergeRequest,
  OpenAttemptReply,
  OpenAttemptRequest,
  ReadFilesReply,
  ReadFilesRequest,
} from '../../protocol/workspace.ts';

export interface GatewayWorkspaces {
  create(request: CreateWorkspaceRequest): Promise<CreateWorkspaceReply>;
  open(request: OpenAttemptRequest): Promise<OpenAttemptReply>;
  read(request: ReadFilesRequest): Promise<ReadFilesReply>;
  commit(request: CommitRequest): Promise<CommitReply>;
  merge(request: MergeRequest): Promise<MergeReply>;
}
