/**
 * A worker and a gateway on the bus that answer as real ones do, without models, tools or git: for
 * tests of the master. What they do is steered by the test and kept in lists.
 */
import { encode } from '../../protocol/codec.ts';
import type { WireError } from '../../protocol/errors.ts';
import { GatewayId, LeaseId, NodeId } from '../../protocol/ids.ts';
import { ListRequest } from '../../protocol/mcp.ts';
import {
  CancelRequest,
  type LeaseAdvert,
  ReleaseRequest,
  ReserveRequest,
} from '../../protocol/node.ts';
import type { Plan } from '../../protocol/plan.ts';
import { BUCKETS, CONSUMERS, STREAMS } from '../../protocol/streams.ts';
import {
  advertKey,
  mcpSubject,
  nodeSubject,
  reportSubject,
  tasksOf,
  workspaceSubject,
} from '../../protocol/subjects.ts';
import { TaskMessage, type TaskReport } from '../../protocol/task.ts';
import {
  ArchiveRequest,
  CheckRequest,
  CreateWorkspaceRequest,
  FinishRequest,
  MergeRequest,
} from '../../protocol/workspace.ts';
import type { Subscription } from '../../runtime/bus.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Messenger } from '../../runtime/messages.ts';
import { type NodeInput, nodeView } from '../../scheduling/test-nodes.ts';
import { SHA, TWO_TASKS } from './test-build.ts';

const ADVERT_MS = 1_000;

/** What a worker makes of a task; null: it never answers. */
export type Work = (message: TaskMessage) => Partial<TaskReport> | null;

export class TestPeers {
  readonly node: NodeId;
  readonly tasks: TaskMessage[] = [];
  readonly cancelled: CancelRequest[] = [];
  readonly released: LeaseId[] = [];
  /** As its worker's advert shows them. */
  leases: readonly LeaseAdvert[] = [];
  readonly checks: CheckRequest[] = [];
  readonly finished: string[] = [];
  readonly merged: MergeRequest[] = [];
  /** Called for each merge; what it throws, the merge fails with. */
  mergeBegins: (request: MergeRequest) => void = () => {};
  /** Its worker says nothing any more; what it is sent it does not answer. */
  isSilent = false;
  /** What its worker's advert shows besides the scaffold. */
  shows: Partial<NodeInput> = {};
  /** Of the worker's advert; grows when it is started again. */
  workerEpoch = 1;
  plan: Plan = TWO_TASKS;
  work: Work = () => ({});
  /** Of the gateway's advert; grows when it is started again. */
  epoch = 1;
  /** Called for each check; what it waits for, the check waits for. */
  checkBegins: (request: CheckRequest) => Promise<void> = async () => {};
  checkPasses: (request: CheckRequest) => boolean = () => true;
  readonly #messenger: Messenger;
  readonly #clock: Clock;
  readonly #stopping = new AbortController();
  readonly #subscriptions: Subscription[] = [];
  #adverts: Promise<void> = Promise.resolve();

  constructor(messenger: Messenger, clock: Clock, node: string) {
    this.#messenger = messenger;
    this.#clock = clock;
    this.node = NodeId.parse(node);
  }

  async start(): Promise<void> {
    this.#serveNode();
    this.#serveGateway();
    this.#subscriptions.push(
      await this.#messenger.consume(
        STREAMS.task.name,
        {
          ...CONSUMERS.worker_task,
          durable: `worker-${this.node}`,
          filter: tasksOf(this.node),
          max_ack_pending: 16,
          concurrency: 16,
        },
        TaskMessage,
        async message => {
          this.tasks.push(message);
          await this.report(message);
          return { kind: 'done' };
        },
      ),
    );
    await this.advertise();
    this.#adverts = this.#keepAdvertising();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#adverts;
    await Promise.all(this.#subscriptions.map(subscription => subscription.stop()));
  }

  async advertise(): Promise<void> {
    const kv = this.#messenger.bus.kv(BUCKETS.node.name);
    const base = { id: this.node, scaffold: true, ollama: false, slots: 16 };
    const view = nodeView({ ...base, ...this.shows });
    const { capacity, runtime } = view;
    const gateway = {
      node: this.node,
      epoch: this.epoch,
      host: 'test',
      state: 'ready',
      at: 1,
      gateway: this.node,
      sandbox: 'none',
      servers: [],
    };
    if (!this.isSilent) {
      const { workerEpoch: epoch, leases } = this;
      await kv.put(advertKey(this.node, 'capacity'), encode(capacity?.advert));
      await kv.put(advertKey(this.node, 'runtime'), encode({ ...runtime?.advert, epoch, leases }));
    }
    await kv.put(advertKey(this.node, 'gateway'), encode(gateway));
  }

  async #keepAdvertising(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      try {
        await this.#clock.sleep(ADVERT_MS, this.#stopping.signal);
        await this.advertise();
      } catch {
        // The bus is away, or the test is over: the loop looks.
      }
    }
  }

  async report(message: TaskMessage): Promise<void> {
    const more = this.work(message);
    if (more === null || this.isSilent) return;
    const { build, task, attempt } = message;
    const report: TaskReport = {
      build,
      task,
      attempt,
      lease: message.lease,
      node: this.node,
      engine: message.engine,
      model: message.model,
      outcome: 'done',
      error: null,
      blame: null,
      summary: 'done',
      plan: message.kind === 'plan' ? this.plan : null,
      commit: message.kind === 'plan' ? null : SHA,
      files: [],
      tool_calls: [],
      usage: {
        turns: 1,
        prompt_tokens: 1,
        output_tokens: 1,
        generate_ms: 1,
        load_ms: 0,
        tool_calls: 0,
        remote_turns: 0,
      },
      ...more,
    };
    await this.#messenger.append(reportSubject(this.node, report), 'task.reported', report);
  }

  #serveNode(): void {
    const messenger = this.#messenger;
    this.#subscriptions.push(
      messenger.serve(nodeSubject(this.node, 'reserve'), ReserveRequest, async request => ({
        granted: true,
        lease: LeaseId.parse(`${request.build}-${request.task}-${request.attempt}`),
        epoch: 1,
        expires_at: this.#clock.now() + request.ttl_ms,
      })),
      messenger.serve(nodeSubject(this.node, 'release'), ReleaseRequest, async ({ lease }) => {
        this.released.push(lease);
        return { ok: true };
      }),
      messenger.serve(nodeSubject(this.node, 'cancel'), CancelRequest, async request => {
        this.cancelled.push(request);
        return { ok: true };
      }),
    );
  }

  #serveGateway(): void {
    const messenger = this.#messenger;
    const gateway = GatewayId.parse(this.node);
    const archive = { bucket: 'codegod_artifact', sha256: 'b'.repeat(64), size: 7 };
    this.#subscriptions.push(
      messenger.serve(mcpSubject(gateway, 'list'), ListRequest, async () => ({
        tools: [tool('write_file')],
        unknown: [],
      })),
      messenger.serve(mcpSubject(gateway, 'status'), ListRequest, async () => ({
        servers: [toolServer],
      })),
      messenger.serve(
        workspaceSubject(gateway, 'create'),
        CreateWorkspaceRequest,
        async ({ name }) => ({
          path: `/projects/${name}`,
          head: SHA,
        }),
      ),
      messenger.serve(workspaceSubject(gateway, 'merge'), MergeRequest, async request => {
        this.merged.push(request);
        this.mergeBegins(request);
        return { merged: true, commit: SHA };
      }),
      messenger.serve(workspaceSubject(gateway, 'check'), CheckRequest, async request => {
        this.checks.push(request);
        await this.checkBegins(request);
        return this.#checked(request);
      }),
      messenger.serve(workspaceSubject(gateway, 'archive'), ArchiveRequest, async ({ build }) => {
        const name = `${build}.tar.gz`;
        await messenger.bus.objects(archive.bucket).put(name, new TextEncoder().encode('archive'));
        return { archive: { ...archive, name }, head: SHA, files: [{ path: 'a.js', size: 1 }] };
      }),
      messenger.serve(workspaceSubject(gateway, 'finish'), FinishRequest, async ({ build }) => {
        this.finished.push(build);
        return { ok: true };
      }),
    );
  }

  #checked(request: CheckRequest) {
    const passed = this.checkPasses(request);
    return {
      round: request.round,
      command: request.command,
      passed,
      tests_passed: passed ? 2 : 1,
      tests_failed: passed ? 0 : 1,
      exit_code: passed ? 0 : 1,
      sandbox: 'none',
      duration_ms: 1,
      output: passed ? 'ok' : 'not ok',
    };
  }
}

const tool = (name: string) => ({
  server: 'filesystem',
  name,
  description: 'writes',
  input_schema: {},
});

const toolServer = {
  name: 'filesystem',
  description: 'files',
  state: 'ready',
  package: 'server-filesystem',
  version: '1.0.0',
  pid: 1,
  tools: ['write_file'],
  restarts: 0,
  reason: null,
  fix: null,
};

export const scaffoldRefusal: WireError = {
  code: 'scaffold_refused',
  message: 'there is no recipe for a game',
};
