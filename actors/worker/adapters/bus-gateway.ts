/** The gateway, asked over the bus. */
import { GatewayId } from '../../../protocol/ids.ts';
import { CallReply, ListReply } from '../../../protocol/mcp.ts';
import { mcpSubject, workspaceSubject } from '../../../protocol/subjects.ts';
import { CommitReply, OpenAttemptReply, ReadFilesReply } from '../../../protocol/workspace.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import type { GatewayPort } from '../ports.ts';

const WORKSPACE_MS = 60_000;
/** The first question about tools may start their servers. */
const LIST_MS = 60_000;
/** What a call may take besides the tool's own time: queueing and a cold start of its server. */
const CALL_EXTRA_MS = 45_000;

export function createBusGateway(messenger: Messenger): GatewayPort {
  const id = (gateway: string): GatewayId => GatewayId.parse(gateway);
  return {
    async open(gateway, request, signal) {
      const subject = workspaceSubject(id(gateway), 'open');
      await messenger.ask(subject, request, OpenAttemptReply, { timeout_ms: WORKSPACE_MS, signal });
    },
    read: (gateway, request, signal) =>
      messenger.ask(workspaceSubject(id(gateway), 'read'), request, ReadFilesReply, {
        timeout_ms: WORKSPACE_MS,
        signal,
      }),
    async tools(gateway, names, signal) {
      const request = names === null ? {} : { tools: names };
      const options = { timeout_ms: LIST_MS, signal };
      return (await messenger.ask(mcpSubject(id(gateway), 'list'), request, ListReply, options))
        .tools;
    },
    call: (gateway, request, signal) =>
      messenger.ask(mcpSubject(id(gateway), 'call'), request, CallReply, {
        timeout_ms: request.timeout_ms + CALL_EXTRA_MS,
        signal,
      }),
    commit: (gateway, request, signal) =>
      messenger.ask(workspaceSubject(id(gateway), 'commit'), request, CommitReply, {
        timeout_ms: WORKSPACE_MS,
        signal,
      }),
  };
}
