/**
 * Asking: one wildcard subscription receives every reply of a connection, a map finds who waits.
 *
 * Each ask costs one map entry and one set entry in the timer wheel; no subscription, timer or
 * stack trace of its own. That is where the throughput over the client's own request comes from.
 *
 * I1  An open route ends exactly once: by its owner's `close`, or by `fail` when the connection is
 *     lost, because replies sent meanwhile are lost too.
 */
import { CodeGodError } from '../protocol/errors.ts';
import { peerOf } from '../protocol/subjects.ts';
import type { AskOptions, BusMessage } from './bus.ts';
import type { Deadline, TimerWheel } from './bus-wheel.ts';
import { STATUS_NO_RESPONDERS, type Wire, type WireMessage } from './bus-wire.ts';

export interface Route {
  /** Where it sent its request; replies come under its own address. */
  readonly subject: string;
  receive(message: WireMessage): void;
  /** The connection is lost; the route is already closed. */
  fail(error: CodeGodError): void;
}

export class Inbox {
  readonly wire: Wire;
  readonly wheel: TimerWheel;
  readonly #routes = new Map<string, Route>();
  readonly #prefix: string;
  #opened = 0;

  constructor(wire: Wire, wheel: TimerWheel) {
    this.wire = wire;
    this.wheel = wheel;
    this.#prefix = `${wire.inbox}.reply.`;
    wire.subscribe(`${this.#prefix}>`, message => this.#receive(message));
  }

  /** Answers the token of a new route; `address` gives its subject. */
  open(route: Route): string {
    this.#opened += 1;
    const token = this.#opened.toString(36);
    this.#routes.set(token, route);
    return token;
  }

  address(token: string): string {
    return this.#prefix + token;
  }

  close(token: string): void {
    this.#routes.delete(token);
  }

  /** What still comes for a token goes elsewhere; nothing where it is closed. */
  reroute(token: string, route: Route): void {
    if (this.#routes.has(token)) this.#routes.set(token, route);
  }

  /** Fails every open route (I1). */
  failAll(error: CodeGodError): void {
    const routes = [...this.#routes.values()];
    this.#routes.clear();
    for (const route of routes) route.fail(error);
  }

  /** Fails what was asked on a subject that the server did not let through. */
  refuse(subject: string): void {
    for (const [token, route] of this.#routes) {
      if (route.subject !== subject) continue;
      this.#routes.delete(token);
      route.fail(notAllowed(subject));
    }
  }

  ask(subject: string, body: Uint8Array, options: AskOptions): Promise<BusMessage> {
    return new Promise((resolve, reject) => {
      new PendingAsk(this, subject, options, resolve, reject).send(body);
    });
  }

  #receive(message: WireMessage): void {
    const { subject } = message;
    const start = this.#prefix.length;
    const end = subject.indexOf('.', start);
    const token = subject.slice(start, end === -1 ? undefined : end);
    this.#routes.get(token)?.receive(message);
  }
}

class PendingAsk implements Route {
  readonly subject: string;
  readonly #inbox: Inbox;
  readonly #options: AskOptions;
  readonly #resolve: (message: BusMessage) => void;
  readonly #reject: (error: CodeGodError) => void;
  readonly #cancel: (() => void) | null;
  #token = '';
  #deadline: Deadline | null = null;

  constructor(
    inbox: Inbox,
    subject: string,
    options: AskOptions,
    resolve: (message: BusMessage) => void,
    reject: (error: unknown) => void,
  ) {
    this.#inbox = inbox;
    this.subject = subject;
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#cancel = options.signal === undefined ? null : () => this.fail(cancelled(subject));
  }

  send(body: Uint8Array): void {
    const { signal, headers, timeout_ms } = this.#options;
    if (signal?.aborted) {
      this.#reject(cancelled(this.subject));
      return;
    }
    this.#token = this.#inbox.open(this);
    const address = this.#inbox.address(this.#token);
    try {
      this.#inbox.wire.publish(this.subject, body, headers, address);
    } catch (error) {
      this.#inbox.close(this.#token);
      throw error;
    }
    this.#deadline = this.#inbox.wheel.after(timeout_ms, () => this.fail(this.#timedOut()));
    if (this.#cancel !== null) signal?.addEventListener('abort', this.#cancel, { once: true });
  }

  receive(message: WireMessage): void {
    if (message.status === STATUS_NO_RESPONDERS) {
      this.fail(noResponders(this.subject));
      return;
    }
    this.#end();
    this.#resolve(message);
  }

  fail(error: CodeGodError): void {
    this.#end();
    this.#reject(error);
  }

  #end(): void {
    this.#inbox.close(this.#token);
    this.#deadline?.cancel();
    if (this.#cancel !== null) this.#options.signal?.removeEventListener('abort', this.#cancel);
  }

  #timedOut(): CodeGodError {
    const { timeout_ms } = this.#options;
    return new CodeGodError(
      'timeout',
      `no answer of ${peerOf(this.subject)} within ${timeout_ms} ms`,
    );
  }
}

export const cancelled = (subject: string): CodeGodError =>
  new CodeGodError('cancelled', `the request to ${peerOf(subject)} was cancelled`);

export const noResponders = (subject: string): CodeGodError =>
  new CodeGodError(
    'no_responders',
    `${peerOf(subject)} does not answer: it does not run, or not yet`,
  );

const notAllowed = (subject: string): CodeGodError =>
  new CodeGodError('unauthorized', `this machine may not ask ${peerOf(subject)}`, {
    hint: 'ask on the machine that runs the system',
  });

export const connectionLost = (): CodeGodError =>
  new CodeGodError(
    'bus_unavailable',
    'the connection to the bus was lost; what was asked may or may not have been done',
  );
