/** A master with its HTTP door on a real bus, for tests: on a free port, with its own journal. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BuildSummary } from '../../protocol/build.ts';
import { NodeId } from '../../protocol/ids.ts';
import type { Bus } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createMessenger, type Messenger } from '../../runtime/messages.ts';
import { createMetrics } from '../../runtime/metrics.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { Master } from './adapters/master.ts';
import { type OpenDoor, openDoor } from './adapters/open-door.ts';
import { type Origins, originsOf } from './http/origins.ts';

export const POLL_MS = 25;

export interface TestMasterOptions {
  readonly url: string;
  readonly directory?: string;
  readonly epoch?: number;
  readonly buildsMax?: number;
  readonly taskTimeoutS?: number;
  readonly aliases?: Readonly<Record<string, string>>;
  readonly queueMax?: number;
  readonly waitMaxS?: number;
  readonly auth?: 'auto' | 'required';
  readonly origins?: Origins;
  readonly signOfLifeMs?: number;
}

export const testConfig = (options: Partial<TestMasterOptions>) => ({
  lease_ttl_ms: 2_000,
  builds_max: options.buildsMax ?? 4,
  task_timeout_s: options.taskTimeoutS ?? 300,
  ...{ master_model: 'auto', worker_model: 'auto', ack_wait_ms: 5_000, max_parallel_tasks: 5 },
  fallback: 'deny' as const,
  prefer_local: true,
  pool: {
    queue_max: options.queueMax ?? 512,
    wait_max_s: options.waitMaxS ?? 60,
    ...{ age_bound_s: 30, residency_s: 0 },
  },
  models: { aliases: { ...options.aliases } },
});

export class TestMaster {
  readonly master: Master;
  readonly bus: Bus;
  readonly messenger: Messenger;
  readonly http: OpenDoor;
  readonly directory: string;

  private constructor(parts: {
    master: Master;
    bus: Bus;
    messenger: Messenger;
    http: OpenDoor;
    directory: string;
  }) {
    this.master = parts.master;
    this.bus = parts.bus;
    this.messenger = parts.messenger;
    this.http = parts.http;
    this.directory = parts.directory;
  }

  static async start(options: TestMasterOptions): Promise<TestMaster> {
    const clock = systemClock;
    const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'codegod-master-')));
    const epoch = options.epoch ?? 1;
    const bus = await connectNats({ servers: [options.url], name: `master-${epoch}`, clock });
    const messenger = createMessenger(bus, { source: '/node/test/actor/master', clock });
    const metrics = createMetrics('master');
    const master = await Master.start(
      {
        metrics,
        bus,
        messenger,
        clock,
        log: silentLogger,
        node: NodeId.parse('test'),
        epoch,
        config: testConfig(options),
      },
      directory,
    );
    const http = await openDoor({
      ...{ master, messenger, clock, metrics, log: silentLogger, version: '0.0.0' },
      ...{ host: '127.0.0.1', port: 0, isConfigured: true },
      auth: options.auth ?? 'auto',
      origins: options.origins ?? originsOf([], []),
      waitMaxMs: (options.waitMaxS ?? 60) * 1_000,
      ...(options.signOfLifeMs === undefined ? {} : { signOfLifeMs: options.signOfLifeMs }),
    });
    return new TestMaster({ master, bus, messenger, http, directory });
  }

  async settled(): Promise<this> {
    await this.master.settled(10_000);
    return this;
  }

  async stop(): Promise<void> {
    await this.http.close();
    await this.master.stop();
    await this.bus.close();
  }

  async remove(): Promise<void> {
    await this.stop();
    await rm(this.directory, { recursive: true, force: true });
  }

  fetch(path: string, init?: RequestInit): Promise<Response> {
    return fetch(this.http.url + path, init);
  }

  async get(path: string): Promise<unknown> {
    const response = await this.fetch(path);
    return await response.json();
  }

  post(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Response> {
    return this.fetch(path, {
      method: 'POST',
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
    });
  }

  async submit(request: Record<string, unknown>): Promise<string> {
    const response = await this.post('/build', request);
    const { id } = (await response.json()) as { id: string };
    return id;
  }

  async until(
    id: string,
    holds: (summary: BuildSummary) => boolean,
    limitMs = 20_000,
  ): Promise<BuildSummary> {
    const endMs = systemClock.monotonic() + limitMs;
    for (;;) {
      const summary = (await this.get(`/builds/${id}`)) as BuildSummary;
      if (summary.state !== undefined && holds(summary)) return summary;
      if (systemClock.monotonic() > endMs) {
        throw new Error(`${id} never came there: ${JSON.stringify(summary).slice(0, 2_000)}`);
      }
      await systemClock.sleep(POLL_MS);
    }
  }
}
