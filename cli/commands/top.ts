/**
 * `top`: the pool as it changes. On a terminal a picture painted over once a second (`s` changes the
 * order, `q` ends); elsewhere, and with `--json`, one picture of now.
 */
import type { Telemetry } from '../../protocol/node.ts';
import { Telemetry as TelemetrySchema } from '../../protocol/node.ts';
import { telemetrySubject } from '../../protocol/subjects.ts';
import { systemClock } from '../../runtime/clock.ts';
import { type BusSession, withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, toFailure } from '../exit-code.ts';
import { getFromMaster } from '../master-client.ts';
import { listIn, readNodes } from '../pool-view.ts';
import { onStopSignals } from '../stop-signals.ts';
import { type PoolPicture, renderTop, TOP_ORDERS } from '../top-view.ts';

const FRAME_MS = 1_000;
/** A master that does not answer is not waited for here: the picture says so. */
const KNOCK_MS = 0;
const COLUMNS = 100;

export async function top(context: CommandContext): Promise<number> {
  const { terminal } = context;
  if (terminal.isJson || !terminal.isPaintable('stdout')) {
    const picture = await take(context, new Map());
    const { nodes, waiting } = picture;
    terminal.result({ nodes, waiting }, () =>
      renderTop(picture, 'name', systemClock.now(), Number.POSITIVE_INFINITY),
    );
    return EXIT.ok;
  }
  await withBus(await context.config(), session => live(context, session));
  return EXIT.ok;
}

async function take(
  context: CommandContext,
  pulses: ReadonlyMap<string, Telemetry>,
): Promise<PoolPicture> {
  const nodes = await readNodes(context);
  return { nodes, pulses, waiting: await readWaiting(context) };
}

async function readWaiting(context: CommandContext): Promise<PoolPicture['waiting']> {
  try {
    const answer = await getFromMaster(await context.config(), '/pool', KNOCK_MS);
    return listIn<{ id: string; reason: string }>(answer, 'waiting');
  } catch (error) {
    // The picture says that the queue is unknown; the machines are shown all the same.
    if (toFailure(error).code === 'internal') throw error;
    return null;
  }
}

async function live(context: CommandContext, { bus, messenger }: BusSession): Promise<void> {
  const { terminal } = context;
  const painter = await terminal.painter('stdout');
  const pulses = new Map<string, Telemetry>();
  const subscription = bus.subscribe(telemetrySubject('*'), message => {
    const pulse = messenger.decode(message, TelemetrySchema);
    pulses.set(pulse.node, pulse);
  });
  const over = new AbortController();
  let order = 0;
  const keys = onKeys(key => {
    if (key === 's') order = (order + 1) % TOP_ORDERS.length;
    if (key === 'q' || key === '\u0003') over.abort();
  });
  const release = onStopSignals(() => over.abort());
  try {
    while (!over.signal.aborted) {
      const picture = await take(context, pulses);
      const columns = terminal.columns('stdout') ?? COLUMNS;
      painter.paint(renderTop(picture, TOP_ORDERS[order] ?? 'name', systemClock.now(), columns));
      // Woken early means that it is over, which the loop looks at next.
      await systemClock.sleep(FRAME_MS, over.signal).catch(() => undefined);
    }
  } finally {
    painter.done();
    release();
    keys();
    await subscription.stop();
  }
}

/** Single keys without Enter, where stdin is a terminal; answers the way to stop. */
function onKeys(listener: (key: string) => void): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) return () => {};
  const onData = (data: Buffer): void => listener(data.toString('utf8'));
  stdin.setRawMode(true);
  stdin.on('data', onData);
  stdin.resume();
  return () => {
    stdin.off('data', onData);
    stdin.setRawMode(false);
    stdin.pause();
  };
}
