/**
 * What the gateway answers on the bus: one line per subject, and its advert every five seconds.
 *
 * G1: every request may be repeated; the parts behind it see to that.
 * G2: a node asks for the attempts that it was given, and for no other's: the bus server vouches for
 *     the node in the subject, the attempt's task for its place (adapters/attempt-nodes.ts).
 */

import type { output, ZodType } from 'zod';
import { z } from 'zod';
import { CodeGodError } from '../../protocol/errors.ts';
import { attemptKey, type GatewayId, NodeId, type StampedBuild } from '../../protocol/ids.ts';
import {
  type AttemptScope,
  type CallReply,
  CallRequest,
  type ListReply,
  ListRequest,
  type McpStatusReply,
} from '../../protocol/mcp.ts';
import type { Acknowledgement, GatewayAdvert, LifecycleState } from '../../protocol/node.ts';
import { ADVERT_EVERY_MS, BUCKETS } from '../../protocol/streams.ts';
import {
  advertKey,
  mcpSubject,
  type NodeMcpVerb,
  type NodeWorkspaceVerb,
  nodeMcpSubject,
  nodeWorkspaceSubject,
  workspaceSubject,
} from '../../protocol/subjects.ts';
import {
  type ArchiveReply,
  ArchiveRequest,
  type CheckReply,
  CheckRequest,
  CommitRequest,
  CreateWorkspaceRequest,
  FinishRequest,
  MergeRequest,
  OpenAttemptRequest,
  ReadFilesRequest,
} from '../../protocol/workspace.ts';
import type { Subscription } from '../../runtime/bus.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Messenger, RequestContext } from '../../runtime/messages.ts';
import type { GivenAttempt, GivenTo } from './adapters/attempt-nodes.ts';
import type { ProjectAuthors } from './adapters/project-authors.ts';
import type { GatewayWorkspaces } from './ports.ts';

/** What stands behind the subjects. */
export interface GatewayParts {
  readonly givenTo: GivenTo;
  readonly authors: Pick<ProjectAuthors, 'begins' | 'writes'>;
  readonly workspaces: GatewayWorkspaces;
  readonly check: (request: CheckRequest, signal: AbortSignal) => Promise<CheckReply>;
  readonly archive: (build: StampedBuild) => Promise<ArchiveReply>;
  /** Removes the attempts of a build and what is remembered of them. */
  readonly finish: (build: StampedBuild) => Promise<void>;
  readonly call: (request: CallRequest, signal: AbortSignal) => Promise<CallReply>;
  readonly list: (request: ListRequest, signal: AbortSignal) => Promise<ListReply>;
  readonly status: () => Promise<McpStatusReply>;
}

const DONE: Acknowledgement = { ok: true };

export function serveGateway(
  messenger: Messenger,
  gateway: GatewayId,
  parts: GatewayParts,
): Subscription {
  const { workspaces } = parts;
  const mcp = (verb: Parameters<typeof mcpSubject>[1]) => mcpSubject(gateway, verb);
  const at = (verb: Parameters<typeof workspaceSubject>[1]) => workspaceSubject(gateway, verb);
  const served = [
    ...serveNodes(messenger, gateway, parts),
    messenger.serve(mcp('list'), ListRequest, (request, { signal }) => parts.list(request, signal)),
    messenger.serve(mcp('status'), z.looseObject({}), () => parts.status()),
    messenger.serve(at('create'), CreateWorkspaceRequest, async request => {
      await parts.authors.begins(request);
      return await workspaces.create(request);
    }),
    messenger.serve(at('merge'), MergeRequest, request => workspaces.merge(request)),
    messenger.serve(at('check'), CheckRequest, (request, { signal }) =>
      parts.check(request, signal),
    ),
    messenger.serve(at('archive'), ArchiveRequest, request => parts.archive(request)),
    messenger.serve(at('finish'), FinishRequest, async request => {
      await parts.finish(request);
      return DONE;
    }),
  ];
  return {
    async stop() {
      await Promise.all(served.map(subscription => subscription.stop()));
    },
  };
}

/** What workers ask for their attempts (G2). */
function serveNodes(
  messenger: Messenger,
  gateway: GatewayId,
  { workspaces, givenTo, authors, ...parts }: GatewayParts,
): Subscription[] {
  const mcp = (verb: NodeMcpVerb) => nodeMcpSubject(gateway, verb, '*');
  const at = (verb: NodeWorkspaceVerb) => nodeWorkspaceSubject(gateway, verb, '*');
  const given = async (scope: AttemptScope, { subject }: RequestContext): Promise<GivenAttempt> => {
    const node = NodeId.safeParse(subject.split('.').at(-1));
    const attempt = node.success ? await givenTo(scope, node.data) : null;
    if (attempt !== null) return attempt;
    throw new CodeGodError('denied', `the attempt ${attemptKey(scope)} was not given to this node`);
  };
  const serve = <S extends ZodType<AttemptScope>>(
    verb: NodeWorkspaceVerb,
    schema: S,
    answer: (request: output<S>, by: GivenAttempt) => Promise<unknown>,
  ): Subscription =>
    messenger.serve(at(verb), schema, async (request, context) =>
      answer(request, await given(request, context)),
    );
  return [
    serve('open', OpenAttemptRequest, request => workspaces.open(request)),
    serve('read', ReadFilesRequest, request => workspaces.read(request)),
    serve('commit', CommitRequest, async (request, by) => {
      await authors.writes(request, by);
      return await workspaces.commit(request);
    }),
    messenger.serve(mcp('list'), ListRequest, (request, { signal }) => parts.list(request, signal)),
    messenger.serve(mcp('call'), CallRequest, async (request, context) => {
      const { scope, call_id } = request;
      if (scope !== undefined) {
        await given(scope, context);
        // Else one node could take the ids, and so the answers, of another's calls.
        const { build, task, attempt } = scope;
        const own = `${attemptKey({ build, task, attempt })}.`;
        if (!call_id.startsWith(own)) {
          throw new CodeGodError('denied', `the call ${call_id} is none of the attempt ${own}`);
        }
      }
      return await parts.call(request, context.signal);
    }),
  ];
}

export interface AdvertOptions {
  readonly messenger: Messenger;
  readonly clock: Clock;
  readonly log: Logger;
  readonly node: NodeId;
  readonly host: string;
  readonly epoch: number;
  readonly sandbox: () => GatewayAdvert['sandbox'];
  readonly state: () => LifecycleState;
  /** Calls back at each change of state; answers the way to stop listening. */
  readonly onState: (listener: () => void) => () => void;
  readonly status: () => Promise<McpStatusReply>;
}

/** Says every five seconds, at each change of state and whenever it has connected to the bus, that this gateway is here. */
export function advertise(options: AdvertOptions): Subscription {
  const { messenger, clock, log, node, host, epoch, sandbox } = options;
  const bucket = messenger.bus.kv(BUCKETS.node.name);
  const over = new AbortController();
  let connections = 1;
  let wake = new AbortController();
  const forget = messenger.bus.status(event => {
    if (event.type !== 'reconnected') return;
    connections += 1;
    wake.abort();
  });
  const unlisten = options.onState(() => wake.abort());
  const put = async (): Promise<void> => {
    const { servers } = await options.status();
    const advert: GatewayAdvert = {
      node,
      epoch,
      host,
      state: options.state(),
      at: clock.now(),
      gateway: node as string as GatewayId,
      connections,
      sandbox: sandbox(),
      servers: servers.map(({ name, state, tools }) => ({ name, state, tools: tools.length })),
    };
    await bucket.put(advertKey(node, 'gateway'), new TextEncoder().encode(JSON.stringify(advert)));
  };
  const loop = async (): Promise<void> => {
    while (!over.signal.aborted) {
      wake = new AbortController();
      // A lost advert is repeated by the next one; silence for longer is what the TTL is for.
      await put().catch((error: unknown) => log.warn('gateway.advert_failed', { error }));
      const woken = AbortSignal.any([over.signal, wake.signal]);
      await clock.sleep(ADVERT_EVERY_MS, woken).catch(() => undefined);
    }
  };
  const running = loop();
  return {
    async stop() {
      forget();
      unlisten();
      over.abort();
      await running;
      await bucket.delete(advertKey(node, 'gateway'));
    },
  };
}
