/**
 * The monitor's live machine: measure, advertise and tell the pulse, each at its own pace.
 *
 * M1: an advert never waits for a probe. Measuring and advertising are separate regions; a probe
 *     that hangs leaves the last figures standing, with their time of measurement in them.
 * M2: nothing is advertised before the first measurement: an empty node would be a lie.
 */
import { assign, fromPromise, setup } from 'xstate';
import { isNotable } from './capacity.ts';
import type { Measurement, MonitorPorts } from './ports.ts';

export interface MonitorContext {
  readonly measurement: Measurement | null;
  /** Advertise at the next opportunity instead of at the next beat. */
  readonly notable: boolean;
}

type MonitorEvent = { readonly type: 'drain' };

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
  delays: { measureEvery: 5_000, advertEvery: 5_000, pulseEvery: 1_000, retryAfter: 1_000 },
  guards: {
    hasMeasured: ({ context }) => context.measurement !== null,
    isNotable: ({ context }) => context.measurement !== null && context.notable,
  },
}).createMachine({
  id: 'monitor',
  context: { measurement: null, notable: false },
  initial: 'watching',
  states: {
    watching: {
      type: 'parallel',
      on: { drain: 'stopped' },
      states: {
        measuring: {
          initial: 'probing',
          states: {
            probing: {
              invoke: {
                src: 'measure',
                onDone: {
                  target: 'resting',
                  actions: assign(({ context, event }) => ({
                    measurement: event.output,
                    notable: context.notable || isNotable(context.measurement, event.output),
                  })),
                },
                onError: 'resting',
              },
            },
            resting: { after: { measureEvery: 'probing' } },
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
