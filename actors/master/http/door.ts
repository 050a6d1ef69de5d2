/** What the HTTP door asks of the master, as an interface. */
import type { BuildRequest, BuildSummary, ControlRequest } from '../../../protocol/build.ts';
import type { BuildId, GatewayId, NodeId } from '../../../protocol/ids.ts';
import type { ToolServerStatus } from '../../../protocol/mcp.ts';
import type {
  CapacityAdvert,
  GatewayAdvert,
  PlacementDecision,
  RuntimeAdvert,
} from '../../../protocol/node.ts';
import type { PlaceQuery, PoolStatus, RequestRecord } from '../../../protocol/pool.ts';

export interface BuildEvent {
  /** Place in the stream of facts. */
  readonly seq: number;
  readonly type: string;
  /** The fact as it is stored. */
  readonly json: string;
  /** Nothing follows, unless the build is tried again. */
  readonly isLast: boolean;
}

export interface Decision {
  readonly task: string;
  readonly attempt: number;
  readonly decision: PlacementDecision;
}

export interface NodeEntry {
  readonly node: NodeId;
  readonly seen_at: number;
  readonly capacity: CapacityAdvert | null;
  readonly runtime: RuntimeAdvert | null;
  readonly gateway: GatewayAdvert | null;
  /** What a person should know of it, in words. */
  readonly notes: readonly string[];
}

export type ToolServer = ToolServerStatus & { readonly gateway: GatewayId };

export interface Door {
  role(): 'standby' | 'recovering' | 'leading';
  bus(): { readonly url: string; readonly connected: boolean; readonly server_version: string };
  /** Stores the request; `id` makes a repeated one the same one. */
  submit(request: BuildRequest, id: string | null): Promise<BuildId>;
  /** The newest first. `next` goes into `before` of the next page. */
  list(
    limit: number,
    before: BuildId | null,
  ): Promise<{ readonly builds: readonly BuildSummary[]; readonly next: BuildId | null }>;
  /** @throws CodeGodError `not_found` */
  summary(build: BuildId): Promise<BuildSummary>;
  /** @throws CodeGodError `not_found`, `conflict`, `no_responders` */
  control(build: BuildId, request: ControlRequest): Promise<BuildSummary>;
  /** Facts from a place in the stream on, until the build has ended or the signal fires. */
  events(build: BuildId, fromSeq: number, signal: AbortSignal): AsyncIterable<BuildEvent>;
  decisions(build: BuildId): Promise<readonly Decision[]>;
  /** The stored archive, or null where there is none. */
  archive(build: BuildId): Promise<AsyncIterable<Uint8Array> | null>;
  nodes(): readonly NodeEntry[];
  toolServers(): Promise<readonly ToolServer[]>;
  pool(): PoolStatus;
  /** @throws CodeGodError `not_found` */
  request(id: string): RequestRecord;
  /** The newest first. */
  recentRequests(limit: number): readonly RequestRecord[];
  /** @throws CodeGodError `model_missing` */
  place(query: PlaceQuery): PlacementDecision;
}
