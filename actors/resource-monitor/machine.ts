/**
 * The monitor's live machine: measure, advertise and tell the pulse, each at its own pace.
 *
 * M1: an advert never waits for a probe. Measuring and advertising are separate regions; a probe
 *     that hangs leaves the last figures standing, with their time of measurement in them.
 * M2: nothing is advertised before the first measurement: an empty node would be a lie.
 * M3: who asks for a measurement gets one that begins afterwards. Whoever asks meanwhile shares the
 *     next one, and between two there is a pause, however many ask.
 */
import { type Actor, assign, fromPromise, type SnapshotFrom, setup, waitFor } from 'xstate';
import { CodeGodError } from '../../protocol/errors.ts';
import { isNotable } from './capacity.ts';
import type { Measurement, MonitorPorts } from './ports.ts';

export interface MonitorContext {
  readonly measurement: Measurement | null;
  /** Advertise at the next opportunity instead of at the next beat. */
  readonly notable: boolean;
  /** Measurements begun so far, which of them the present one is, and which was asked for last (M3). */
  readonly begun: number;
  readonly measured: number;
  readonly wanted: number;
}

export type MonitorEvent = { readonly type: 'drain' } | { readonly type: 'measure' };

/** Longer than a tool that hangs is waited for. */
const MEASURED_WITHIN_MS = 6_000;

const unprovided = fromPromise<never, unknown>(() =>
  Promise.reject(new Error('port not provided')),
);

export const monitorMachine = setup({
  types: { context: {} as MonitorContext, events: {} as MonitorEvent },
  actors: {
    measure: unprovided as ReturnType<typeof fromPromise<Measurement, void>>,
    advertise: unprovided as ReturnType<typeof fromPromise<void, Measurement>>,
    beat: unprovided as ReturnType<typeof fromPromise<void, Measurement>>,
  },
  delays: {
    measurePause: 250,
    measureEvery: 4_750,
    advertEvery: 5_000,
    pulseEvery: 1_000,
    retryAfter: 1_000,
  },
  actions: {
    noteAsked: assign({ wanted: ({ context }) => context.begun + 1 }),
    noteBegun: assign({ begun: ({ context }) => context.begun + 1 }),
  },
  guards: {
    isAsked: ({ context }) => context.wanted > context.begun,
    hasMeasured: ({ context }) => context.measurement !== null,
    isNotable: ({ context }) => context.measurement !== null && context.notable,
  },
}).createMachine({
  id: 'monitor',
  context: { measurement: null, notable: false, begun: 0, measured: 0, wanted: 0 },
  initial: 'watching',
  states: {
    watching: {
      type: 'parallel',
      on: { drain: 'stopped' },
      states: {
        measuring: {
          initial: 'probing',
          on: { measure: { actions: 'noteAsked' } },
          states: {
            probing: {
              entry: 'noteBegun',
              invoke: {
                src: 'measure',
                onDone: {
                  target: 'pausing',
                  actions: assign(({ context, event }) => ({
                    measurement: event.output,
                    measured: context.begun,
                    notable:
                      context.notable ||
                      context.wanted >= context.begun ||
                      isNotable(context.measurement, event.output),
                  })),
                },
                onError: 'pausing',
              },
            },
            pausing: {
              after: {
                measurePause: [{ guard: 'isAsked', target: 'probing' }, { target: 'resting' }],
              },
            },
            resting: {
              on: { measure: { target: 'probing', actions: 'noteAsked' } },
              after: { measureEvery: 'probing' },
            },
          },
        },
        advertising: {
          initial: 'waiting',
          states: {
            waiting: {
              always: { guard: 'isNotable', target: 'putting' },
              after: { advertEvery: { guard: 'hasMeasured', target: 'putting', reenter: true } },
            },
            putting: {
              entry: assign({ notable: false }),
              invoke: {
                src: 'advertise',
                input: ({ context }) => measured(context),
                onDone: 'waiting',
                onError: 'recovering',
              },
            },
            recovering: { after: { retryAfter: 'putting' } },
          },
        },
        pulsing: {
          initial: 'waiting',
          states: {
            waiting: { always: { guard: 'hasMeasured', target: 'resting' } },
            resting: { after: { pulseEvery: 'beating' } },
            beating: {
              invoke: {
                src: 'beat',
                input: ({ context }) => measured(context),
                onDone: 'resting',
                onError: 'resting',
              },
            },
          },
        },
      },
    },
    stopped: { type: 'final' },
  },
});

function measured(context: MonitorContext): Measurement {
  if (context.measurement === null) throw new Error('M2: nothing has been measured yet');
  return context.measurement;
}

/**
 * A measurement that begins after this call (M3).
 * @throws CodeGodError `timeout` where none comes in MEASURED_WITHIN_MS, `cancelled` where the monitor stops
 */
export async function measureNow(monitor: Actor<typeof monitorMachine>): Promise<Measurement> {
  const round = monitor.getSnapshot().context.begun + 1;
  if (monitor.getSnapshot().status === 'active') monitor.send({ type: 'measure' });
  const isDone = ({ context, status }: SnapshotFrom<typeof monitorMachine>): boolean =>
    context.measured >= round || status !== 'active';
  let found: SnapshotFrom<typeof monitorMachine>;
  try {
    found = await waitFor(monitor, isDone, { timeout: MEASURED_WITHIN_MS });
  } catch (error) {
    throw new CodeGodError('timeout', 'the probes of this node have not come back', {
      cause: error,
    });
  }
  if (found.context.measured >= round) return measured(found.context);
  throw new CodeGodError('cancelled', 'the monitor stops');
}

/** The one wiring of machine and ports, used by production and tests alike. */
export function withMonitorPorts(
  ports: MonitorPorts,
  onError: (what: string, error: unknown) => void,
) {
  const reported = async <T>(what: string, work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      onError(what, error);
      throw error;
    }
  };
  return monitorMachine.provide({
    actors: {
      measure: fromPromise(({ signal }) => reported('measure', ports.measure(signal))),
      advertise: fromPromise(({ input }) => reported('advertise', ports.advertise(input))),
      beat: fromPromise(({ input }) =>
        reported(
          'pulse',
          ports.pulse().then(pulse => ports.telemetry(pulse, input)),
        ),
      ),
    },
  });
}
