/**
 * The gateway, asked over the bus. A request to one that is killed or cut off meanwhile fails as
 * retryable, and the attempt repeats it under its key.
 */
import type { output, ZodType } from 'zod';
import { GatewayId, type NodeId } from '../../../protocol/ids.ts';
import { CallReply, ListReply } from '../../../protocol/mcp.ts';
import {
  type NodeWorkspaceVerb,
  nodeMcpSubject,
  nodeWorkspaceSubject,
} from '../../../protocol/subjects.ts';
import { CommitReply, OpenAttemptReply, ReadFilesReply } from '../../../protocol/workspace.ts';
import { type PeerLives, whilePeerLives } from '../../../runtime/living-peer.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import type { GatewayPort } from '../ports.ts';

const WORKSPACE_MS = 60_000;
/** The first question about tools may start their servers. */
const LIST_MS = 60_000;
/** What a call may take besides the tool's own time: queueing and a cold start of its server. */
const CALL_EXTRA_MS = 45_000;

export function createBusGateway(
  messenger: Messenger,
  lives: PeerLives,
  node: NodeId,
): GatewayPort {
  const ask = <S extends ZodType>(
    gateway: string,
    subject: string,
    request: unknown,
    schema: S,
    options: { readonly timeout_ms: number; readonly signal: AbortSignal },
  ): Promise<output<S>> =>
    whilePeerLives(lives, gateway, options.signal, signal =>
      messenger.ask(subject, request, schema, { ...options, signal }),
    );
  const workspace = <S extends ZodType>(
    gateway: string,
    verb: NodeWorkspaceVerb,
    request: unknown,
    schema: S,
    signal: AbortSignal,
  ): Promise<output<S>> => {
    const subject = nodeWorkspaceSubject(GatewayId.parse(gateway), verb, node);
    return ask(gateway, subject, request, schema, { timeout_ms: WORKSPACE_MS, signal });
  };
  return {
    async open(gateway, request, signal) {
      await workspace(gateway, 'open', request, OpenAttemptReply, signal);
    },
    read: (gateway, request, signal) => workspace(gateway, 'read', request, ReadFilesReply, signal),
    commit: (gateway, request, signal) =>
      workspace(gateway, 'commit', request, CommitReply, signal),
    async tools(gateway, names, signal) {
      const subject = nodeMcpSubject(GatewayId.parse(gateway), 'list', node);
      const request = names === null ? {} : { tools: names };
      const options = { timeout_ms: LIST_MS, signal };
      return (await ask(gateway, subject, request, ListReply, options)).tools;
    },
    call: (gateway, request, signal) =>
      ask(gateway, nodeMcpSubject(GatewayId.parse(gateway), 'call', node), request, CallReply, {
        timeout_ms: request.timeout_ms + CALL_EXTRA_MS,
        signal,
      }),
  };
}
