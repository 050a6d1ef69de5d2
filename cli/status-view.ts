/** What `status --json` and `up --json` print: a system as others may see it. */
import type { SystemRecord } from './supervisor/system-record.ts';

export interface StatusView {
  readonly running: boolean;
  readonly state: string;
  readonly mode: string | null;
  readonly supervisor_pid: number | null;
  readonly started_at: number | null;
  readonly bus: {
    readonly url: string | null;
    readonly monitoring_url: string | null;
    readonly pid: number | null;
    readonly state: string;
    readonly restarts: number;
    readonly reason: string | null;
    readonly since: number | null;
  };
  readonly http: { readonly url: string | null };
  readonly actors: readonly {
    readonly name: string;
    readonly pid: number | null;
    readonly state: string;
    readonly restarts: number;
    readonly reason: string | null;
    /** When it came into this state. */
    readonly since: number | null;
  }[];
}

export const NOT_RUNNING: StatusView = {
  running: false,
  state: 'stopped',
  mode: null,
  supervisor_pid: null,
  started_at: null,
  bus: {
    url: null,
    monitoring_url: null,
    pid: null,
    state: 'stopped',
    restarts: 0,
    reason: null,
    since: null,
  },
  http: { url: null },
  actors: [],
};

export function statusOf(record: SystemRecord): StatusView {
  const { bus } = record;
  return {
    running: true,
    state: record.state,
    mode: record.mode,
    supervisor_pid: record.supervisor_pid,
    started_at: record.started_at,
    bus: {
      url: bus.url,
      monitoring_url: bus.monitoring_url,
      pid: bus.pid,
      state: bus.state,
      restarts: bus.restarts,
      reason: bus.reason,
      since: bus.since ?? null,
    },
    http: record.http,
    actors: record.actors.map(({ name, pid, state, restarts, reason, since }) => ({
      name,
      pid,
      state,
      restarts,
      reason,
      since: since ?? null,
    })),
  };
}
