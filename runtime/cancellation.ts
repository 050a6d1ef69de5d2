/**
 * An `AbortSignal` for what begins and ends a thousand times a second. Node 20 keeps every
 * `AbortController`, and with it all that its signal can reach, until the next full collection, and
 * brings that collection about: a request that makes one costs several times its own work.
 *
 * C1: it is a signal by the standard's interface, and its own controller. Only what asks for the
 *     platform's own class, such as `AbortSignal.any` and `fetch`, has to be given `standard()`.
 */

type Listener = ((event: Event) => void) | { handleEvent(event: Event): void };

export class Cancellation implements AbortSignal {
  aborted = false;
  reason: unknown = undefined;
  onabort: AbortSignal['onabort'] = null;
  #listeners: Listener[] = [];

  /** Once; later calls change nothing. */
  abort(reason: unknown = new DOMException('This operation was aborted', 'AbortError')): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    if (this.#listeners.length > 0) this.dispatchEvent(new Event('abort'));
  }

  throwIfAborted(): void {
    if (this.aborted) throw this.reason;
  }

  /** It fires once at most, whatever `once` says. */
  addEventListener(type: string, listener: Listener | null): void {
    if (type !== 'abort' || listener === null || this.#listeners.includes(listener)) return;
    this.#listeners.push(listener);
  }

  removeEventListener(type: string, listener: Listener | null): void {
    if (type !== 'abort' || listener === null) return;
    const at = this.#listeners.indexOf(listener);
    if (at >= 0) this.#listeners.splice(at, 1);
  }

  /** What a listener throws keeps it from no other, and is not caught. */
  dispatchEvent(event: Event): boolean {
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) {
      try {
        if (typeof listener === 'function') listener.call(this, event);
        else listener.handleEvent(event);
      } catch (error) {
        process.nextTick(() => {
          throw error;
        });
      }
    }
    return true;
  }
}

/** The same signal as the platform's own (C1). */
export function standard(signal: AbortSignal): AbortSignal {
  if (!(signal instanceof Cancellation)) return signal;
  const controller = new AbortController();
  if (signal.aborted) controller.abort(signal.reason);
  else signal.addEventListener('abort', () => controller.abort(signal.reason));
  return controller.signal;
}
