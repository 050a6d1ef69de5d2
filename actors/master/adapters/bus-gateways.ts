/**
 * Gateways over the bus: `codegod.workspace.<gateway>.*` and `codegod.mcp.<gateway>.*`. A request
 * to a gateway that is killed or cut off meanwhile is repeated under its key by whoever made it.
 */
import type { output, ZodType } from 'zod';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { GatewayId } from '../../../protocol/ids.ts';
import { ListReply, McpStatusReply } from '../../../protocol/mcp.ts';
import { Acknowledgement } from '../../../protocol/node.ts';
import { mcpSubject, type WorkspaceVerb, workspaceSubject } from '../../../protocol/subjects.ts';
import {
  ArchiveReply,
  CheckReply,
  CreateWorkspaceReply,
  MergeReply,
} from '../../../protocol/workspace.ts';
import { type PeerLives, whilePeerLives } from '../../../runtime/living-peer.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import type { GatewayPort, NodesPort } from '../ports.ts';

const LIST_MS = 30_000;
const STATUS_MS = 5_000;
const CREATE_MS = 60_000;
const MERGE_MS = 120_000;
/** Beside the check's own limit: a clean checkout, and an environment for its stack. */
const CHECK_SETUP_MS = 180_000;
const ARCHIVE_MS = 120_000;
const FINISH_MS = 30_000;

export function createGatewayPort(messenger: Messenger, nodes: NodesPort): GatewayPort {
  const lives: PeerLives = {
    lifeOf: gateway => nodes.gatewayLife(gateway as GatewayId),
    onChange: listener => nodes.onChange(listener),
  };
  const askAt = async <S extends ZodType>(
    gateway: GatewayId,
    subject: string,
    request: unknown,
    schema: S,
    options: { readonly timeout_ms: number; readonly signal: AbortSignal },
  ): Promise<output<S>> => {
    try {
      return await whilePeerLives(lives, gateway, options.signal, signal =>
        messenger.ask(subject, request, schema, { ...options, signal }),
      );
    } catch (error) {
      // It stops, and ends what it was asked for: its next life is asked again, as after a kill.
      const isCancelled = error instanceof CodeGodError && error.code === 'cancelled';
      if (!isCancelled || options.signal.aborted) throw error;
      throw new CodeGodError('no_responders', 'the gateway stopped in the middle', {
        cause: error,
      });
    }
  };
  const ask = <S extends ZodType>(
    gateway: GatewayId,
    verb: WorkspaceVerb,
    request: unknown,
    schema: S,
    options: { readonly timeout_ms: number; readonly signal: AbortSignal },
  ): Promise<output<S>> =>
    askAt(gateway, workspaceSubject(gateway, verb), request, schema, options);
  return {
    async tools(gateway, signal) {
      const options = { timeout_ms: LIST_MS, signal };
      const reply = await askAt(gateway, mcpSubject(gateway, 'list'), {}, ListReply, options);
      return reply.tools.map(tool => `${tool.server}.${tool.name}`);
    },
    create: (gateway, request, signal) =>
      ask(gateway, 'create', request, CreateWorkspaceReply, { timeout_ms: CREATE_MS, signal }),
    merge: (gateway, request, signal) =>
      ask(gateway, 'merge', request, MergeReply, { timeout_ms: MERGE_MS, signal }),
    check: (gateway, request, signal) => {
      const timeout_ms = request.timeout_s * 1000 + CHECK_SETUP_MS;
      return ask(gateway, 'check', request, CheckReply, { timeout_ms, signal });
    },
    archive: (gateway, build, signal) =>
      ask(gateway, 'archive', build, ArchiveReply, { timeout_ms: ARCHIVE_MS, signal }),
    async finish(gateway, build, signal) {
      const options = { timeout_ms: FINISH_MS, signal };
      await ask(gateway, 'finish', build, Acknowledgement, options);
    },
  };
}

/** The tool servers of one gateway, as it reports them. */
export async function toolServersOf(
  messenger: Messenger,
  gateway: GatewayId,
): Promise<output<typeof McpStatusReply>['servers']> {
  const options = { timeout_ms: STATUS_MS };
  const reply = await messenger.ask(mcpSubject(gateway, 'status'), {}, McpStatusReply, options);
  return reply.servers;
}
