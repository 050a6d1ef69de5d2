/**
 * What the HTTP door may ask, answered from the master, the streams and the object store. Whatever
 * changes something goes over the bus, as it would for any other client.
 */
import { type BuildRequest, BuildSummary, type ControlRequest } from '../../../protocol/build.ts';
import { CodeGodError, toWireError } from '../../../protocol/errors.ts';
import { Fact } from '../../../protocol/fact.ts';
import { type BuildId, buildIdOf, type GatewayId } from '../../../protocol/ids.ts';
import { isOutdated, type PlacementDecision } from '../../../protocol/node.ts';
import type { PlaceQuery, PoolStatus, RequestRecord } from '../../../protocol/pool.ts';
import { ARTIFACTS, STREAMS } from '../../../protocol/streams.ts';
import { BUILD_SUBJECT, controlSubject, eventsOf } from '../../../protocol/subjects.ts';
import type { StoredMessage } from '../../../runtime/bus.ts';
import type { Clock } from '../../../runtime/clock.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import { NEW_BUILD } from '../build-context.ts';
import { readBuildRequest } from '../build-request.ts';
import { summaryOf } from '../build-summary.ts';
import type { BuildEvent, Decision, Door, NodeEntry, ToolServer } from '../http/door.ts';
import { toolServersOf } from './bus-gateways.ts';
import type { Master } from './master.ts';
import { type NodeRow, seenAtOf } from './node-table.ts';

const CONTROL_MS = 10_000;
const DECISIONS_MAX = 256;
const EVENTS = STREAMS.event.name;
const ENDS: readonly string[] = ['build.ended', 'build.rejected'];

export interface BusDoorOptions {
  readonly messenger: Messenger;
  readonly master: Master;
  readonly clock: Clock;
  readonly log: Logger;
}

export class BusDoor implements Door {
  readonly #messenger: Messenger;
  readonly #master: Master;
  readonly #clock: Clock;
  readonly #log: Logger;

  constructor(options: BusDoorOptions) {
    this.#messenger = options.messenger;
    this.#master = options.master;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  role(): ReturnType<Door['role']> {
    return this.#master.role;
  }

  bus(): ReturnType<Door['bus']> {
    const { url, connected, server_version } = this.#messenger.bus.info();
    return { url, connected, server_version };
  }

  async submit(request: BuildRequest, id: string | null): Promise<BuildId> {
    const more = id === null ? {} : { id };
    const result = await this.#messenger.append(BUILD_SUBJECT, 'build.requested', request, more);
    if (result.kind === 'appended') return buildIdOf(result.seq);
    throw new CodeGodError('overloaded', `the bus takes no more builds: ${result.kind}`);
  }

  async list(limit: number, before: BuildId | null): ReturnType<Door['list']> {
    const page = this.#master.index.page(limit + 1, before);
    const shown = page.slice(0, limit);
    const found = await Promise.all(shown.map(build => this.#master.summary(build)));
    const builds = found.filter(summary => summary !== null);
    return { builds, next: page.length > limit ? (shown.at(-1) ?? null) : null };
  }

  async summary(build: BuildId): Promise<BuildSummary> {
    const summary = (await this.#master.summary(build)) ?? (await this.#justArrived(build));
    if (summary !== null) return summary;
    throw new CodeGodError('not_found', `there is no build ${build}`, {
      hint: '`codegod builds` and GET /builds list them',
    });
  }

  async control(build: BuildId, request: ControlRequest): Promise<BuildSummary> {
    const options = { timeout_ms: CONTROL_MS };
    return await this.#messenger.ask(controlSubject(build), request, BuildSummary, options);
  }

  async *events(build: BuildId, fromSeq: number, signal: AbortSignal): AsyncIterable<BuildEvent> {
    const { streams } = this.#messenger.bus;
    const options = { filter: eventsOf(build), from_seq: fromSeq, signal };
    for await (const message of streams.follow(EVENTS, options)) {
      const type = typeOf(message);
      // A build that was tried again has facts after an end.
      const isLast =
        ENDS.includes(type) && (await streams.last(EVENTS, eventsOf(build)))?.seq === message.seq;
      const json = new TextDecoder().decode(message.body);
      yield { seq: message.seq, type, json, isLast };
      if (isLast) return;
    }
  }

  async decisions(build: BuildId): Promise<readonly Decision[]> {
    const decisions: Decision[] = [];
    const options = { filter: eventsOf(build), from_seq: 1 };
    for await (const message of this.#messenger.bus.streams.read(EVENTS, options)) {
      if (!['task.placed', 'task.unplaced'].includes(typeOf(message))) continue;
      const fact = this.#messenger.decode(message, Fact);
      if (fact.type !== 'task.placed' && fact.type !== 'task.unplaced') continue;
      const { task, attempt, decision } = fact;
      decisions.push({ task, attempt, decision });
      if (decisions.length > DECISIONS_MAX) decisions.shift();
    }
    return decisions;
  }

  async archive(build: BuildId): Promise<AsyncIterable<Uint8Array> | null> {
    const { archive } = await this.summary(build);
    if (archive === null) return null;
    if (archive.bucket !== ARTIFACTS.name) return null;
    return await this.#messenger.bus.objects(archive.bucket).get(archive.name);
  }

  nodes(): readonly NodeEntry[] {
    // Windows compare with the clock on the wall.
    const aheadMs = this.#clock.now() - this.#master.nodes.now();
    const { nodes, misreports } = this.#master;
    const here = nodes.rows().map(row => ({
      node: row.node,
      seen_at: aheadMs + seenAtOf(row),
      capacity: row.capacity?.advert ?? null,
      runtime: row.runtime?.advert ?? null,
      gateway: row.gateway?.advert ?? null,
      notes: notesOn(row, misreports.flood(row.node)),
    }));
    const gone = nodes.gone().map(({ node, seen_at }) => ({
      ...{ node, seen_at: aheadMs + seen_at },
      ...{ capacity: null, runtime: null, gateway: null },
      notes: [],
    }));
    return [...here, ...gone];
  }

  async toolServers(): Promise<readonly ToolServer[]> {
    const gateways = this.#master.nodes.gateways();
    const lists = await Promise.all(gateways.map(gateway => this.#serversOf(gateway)));
    return lists.flat();
  }

  pool(): PoolStatus {
    return this.#master.poolStatus();
  }

  request(id: string): RequestRecord {
    return this.#master.pool.decisions.get(id);
  }

  recentRequests(limit: number): readonly RequestRecord[] {
    return this.#master.pool.decisions.recent(limit);
  }

  place(query: PlaceQuery): PlacementDecision {
    const { directory, pool } = this.#master;
    const { context_tokens, prompt_tokens, output_tokens, capability, selector, nodes } = query;
    const model = query.model === undefined ? null : directory.resolve(query.model);
    return pool.preview({
      ...{ model, context_tokens, remote: 'deny', avoid: [], kind: 'inference' },
      ...(prompt_tokens === undefined ? {} : { prompt_tokens }),
      ...(output_tokens === undefined ? {} : { output_tokens }),
      ...(capability === undefined ? {} : { capability }),
      ...(selector === undefined ? {} : { selector }),
      ...(nodes === undefined ? {} : { nodes }),
    });
  }

  /** A gateway that does not answer shows no servers; the others do. */
  async #serversOf(gateway: GatewayId): Promise<readonly ToolServer[]> {
    try {
      const servers = await toolServersOf(this.#messenger, gateway);
      return servers.map(server => ({ ...server, gateway }));
    } catch (error) {
      this.#log.warn('gateway.status_failed', { gateway, error: toWireError(error) });
      return [];
    }
  }

  /** A build whose message is stored and which nobody has taken in yet. */
  async #justArrived(build: BuildId): Promise<BuildSummary | null> {
    const seq = Number(build.slice(1));
    const range = { filter: BUILD_SUBJECT, from_seq: seq, to_seq: seq };
    for await (const message of this.#messenger.bus.streams.read(STREAMS.build.name, range)) {
      const at = Date.parse(message.time);
      const context = { ...NEW_BUILD, created_at: at, updated_at: at };
      try {
        const defaults = { max_parallel_tasks: 1, fallback: 'deny', prefer_local: true } as const;
        const request = readBuildRequest(message.body, message.headers, defaults);
        return summaryOf(build, 'received', { ...context, request });
      } catch (error) {
        // Nobody has rejected it yet; it is shown as what it is, without its words.
        if (!(error instanceof CodeGodError)) throw error;
        return summaryOf(build, 'received', context);
      }
    }
    return null;
  }
}

/** `codegod.event.b1.build.ended` → `build.ended`. */
const typeOf = (message: StoredMessage): string => message.subject.split('.').slice(3).join('.');

const notesOn = ({ runtime }: NodeRow, flood: number | null): readonly string[] => [
  ...(runtime !== null && isOutdated(runtime.advert)
    ? ['runs an older release and gets no work of builds: update it']
    : []),
  ...(flood === null ? [] : [`sent ${flood} reports within a minute that count for nothing`]),
];
