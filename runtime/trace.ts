/** W3C trace context: enough of it to let one trace run through every message of a build. */
import type { Clock } from './clock.ts';

const FORM = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

export const isTraceparent = (text: string): boolean => FORM.test(text);

/** A new trace that is sampled. */
export function newTraceparent(clock: Pick<Clock, 'random'>): string {
  const word = (): string =>
    Math.floor(clock.random() * 0x1_0000_0000)
      .toString(16)
      .padStart(8, '0');
  // The last digit of both ids is set so that neither is ever all zeros, which would be invalid.
  const traceId = `${word()}${word()}${word()}${word()}`.replace(/0$/, '1');
  const spanId = `${word()}${word()}`.replace(/0$/, '1');
  return `00-${traceId}-${spanId}-01`;
}
