/** A gateway for tests: it keeps the promises of the real one, and keeps what it was asked. */
import type { CodeGodError } from '../../protocol/errors.ts';
import { GatewayId } from '../../protocol/ids.ts';
import { type CallReply, CallRequest, ListRequest } from '../../protocol/mcp.ts';
import {
  type NodeWorkspaceVerb,
  nodeMcpSubject,
  nodeWorkspaceSubject,
} from '../../protocol/subjects.ts';
import { CommitRequest, OpenAttemptRequest, ReadFilesRequest } from '../../protocol/workspace.ts';
import type { Messenger } from '../../runtime/messages.ts';

export const GATEWAY = GatewayId.parse('g1');

/** Fires each call id once, as the real gateway does, and keeps what it was asked. */
export class FakeGateway {
  readonly asked: CallRequest[] = [];
  readonly fired: string[] = [];
  readonly commits: CommitRequest[] = [];
  /** The error of a call, by its number of fired calls; null where it succeeds. */
  fail: (request: CallRequest) => Extract<CallReply, { ok: false }>['error']['code'] | null = () =>
    null;
  commitError: CodeGodError | null = null;
  readonly #journal = new Map<string, CallReply>();

  call(request: CallRequest): CallReply {
    this.asked.push(request);
    const known = this.#journal.get(request.call_id);
    if (known !== undefined) return { ...known, replayed: true };
    const code = this.fail(request);
    const { server, tool } = request;
    if (code === 'server_down') return this.#failed(request, code);
    this.fired.push(request.call_id);
    const reply: CallReply =
      code === null
        ? { ok: true, server, tool, result: {}, replayed: false }
        : this.#failed(request, code);
    this.#journal.set(request.call_id, reply);
    return reply;
  }

  #failed(
    { server, tool }: CallRequest,
    code: Extract<CallReply, { ok: false }>['error']['code'],
  ): CallReply {
    const error = { code, message: `it is ${code}`, server, tool, did_you_mean: [] };
    return { ok: false, error, replayed: false };
  }

  serve(messenger: Messenger): void {
    const at = (verb: NodeWorkspaceVerb) => nodeWorkspaceSubject(GATEWAY, verb, '*');
    const tool = {
      server: 'filesystem',
      name: 'write_file',
      description: '',
      input_schema: { type: 'object', properties: { path: {}, content: {} } },
    };
    messenger.serve(at('open'), OpenAttemptRequest, async () => ({
      path: '/p',
      base: 'b'.repeat(40),
    }));
    messenger.serve(at('read'), ReadFilesRequest, async () => ({ files: [] }));
    messenger.serve(at('commit'), CommitRequest, async request => {
      if (this.commitError !== null) throw this.commitError;
      this.commits.push(request);
      return { commit: 'c'.repeat(40), files: ['src/a.js', 'src/b.js'] };
    });
    messenger.serve(nodeMcpSubject(GATEWAY, 'list', '*'), ListRequest, async () => ({
      tools: [tool],
      unknown: [],
    }));
    messenger.serve(nodeMcpSubject(GATEWAY, 'call', '*'), CallRequest, async request =>
      this.call(request),
    );
  }
}
