/**
 * The part of their time that the processors were at work. On Linux one read of `/proc/stat`
 * (proc(5)); elsewhere what Node has been told by the operating system. No process is started for it:
 * this is asked for every second.
 */
import { readFile } from 'node:fs/promises';
import os from 'node:os';

/** Since boot, in any one unit. */
interface Times {
  readonly busy: number;
  readonly all: number;
}

/** Fields of the line `cpu`: user nice system idle iowait irq softirq steal; guests count as user. */
const IDLE = 3;
const IOWAIT = 4;
const FIELDS = 8;
/** Less than this after the last reading its answer still holds. */
const SPAN_MS_MIN = 200;

export class CpuLoad {
  #before: Times | null = null;
  #readAt = Number.NEGATIVE_INFINITY;
  #load: number | null = null;

  /**
   * From 0 to 1, since the reading before; null at the first one.
   * @param now milliseconds of a clock that only goes forward
   */
  async read(now: number): Promise<number | null> {
    if (now - this.#readAt < SPAN_MS_MIN) return this.#load;
    this.#readAt = now;
    const times = await timesOf();
    const before = this.#before;
    this.#before = times;
    const all = before === null ? 0 : times.all - before.all;
    // Processors that came or went: their times are not those of before.
    this.#load =
      before === null || all <= 0
        ? null
        : Math.min(1, Math.max(0, (times.busy - before.busy) / all));
    return this.#load;
  }
}

async function timesOf(): Promise<Times> {
  if (process.platform === 'linux') {
    const times = parseStat(await readFile('/proc/stat', 'utf8'));
    if (times !== null) return times;
  }
  let busy = 0;
  let all = 0;
  for (const { times } of os.cpus()) {
    const { user, nice, sys, irq, idle } = times;
    busy += user + nice + sys + irq;
    all += user + nice + sys + irq + idle;
  }
  return { busy, all };
}

/** Null where it is none. */
export function parseStat(text: string): Times | null {
  const line = text.slice(0, text.indexOf('\n'));
  const [name, ...fields] = line.split(/\s+/);
  const numbers = fields.slice(0, FIELDS).map(Number);
  const isWhole = numbers.length > IOWAIT && numbers.every(number => number >= 0);
  if (name !== 'cpu' || !isWhole) return null;
  const all = numbers.reduce((sum, number) => sum + number, 0);
  return { busy: all - (numbers[IDLE] ?? 0) - (numbers[IOWAIT] ?? 0), all };
}
