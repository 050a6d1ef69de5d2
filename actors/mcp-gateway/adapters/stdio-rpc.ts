/**
 * JSON-RPC with one child process over its standard input and output, one message per line. The
 * answers are handed on as they are: nothing is stripped, nothing is validated away.
 *
 * J1: hop ids are ours, unique and never reused; an answer to an id that was answered or given up is
 *     dropped. An id that comes back as text is taken for the number in it; an answer to what was
 *     never asked is named, and where only one request waits it fails with that, unless its own
 *     answer comes at once.
 * J2: every request ends: by its answer, its time limit, its signal or the end of the process.
 * J3: whatever the child prints, memory stays bounded: lines, error output, junk are cut.
 * J4: the child leads a process group of its own; closing ends the whole group, politely at first.
 */
import type { Clock } from '../../../runtime/clock.ts';
import { type ChildProcess, startProgram } from '../../../runtime/spawn.ts';
import { isErrno } from './disk.ts';
import { type Line, lineReader } from './message-lines.ts';

export interface RpcProgram {
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly environment: Readonly<Record<string, string>>;
}

export type RpcFailureKind = 'refused' | 'timeout' | 'down' | 'too_large' | 'cancelled';

/** Why a request has no result. `refused`: the server answered with a JSON-RPC error. */
export class RpcFailure extends Error {
  readonly kind: RpcFailureKind;
  readonly rpcCode: number | null;

  constructor(kind: RpcFailureKind, message: string, rpcCode: number | null = null) {
    super(message);
    this.name = 'RpcFailure';
    this.kind = kind;
    this.rpcCode = rpcCode;
  }
}

export interface RpcRequestOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ProcessEnd {
  /** One line: how it ended. */
  readonly reason: string;
  /** The last lines it wrote to standard error, or to standard output without being asked. */
  readonly errorTail: string;
}

export interface StdioRpc {
  readonly pid: number | null;
  request(method: string, params: object, options: RpcRequestOptions): Promise<unknown>;
  notify(method: string, params: object): void;
  /** Called for every notification of the server. */
  onNotification(listener: (method: string) => void): void;
  /** Resolves once the process is gone, whoever ended it. */
  readonly ended: Promise<ProcessEnd>;
  /** Closes its input, then asks, then kills; resolves when it is gone. */
  close(why: string): Promise<ProcessEnd>;
  /** Kills at once. */
  kill(why: string): void;
}

const POLITE_MS = 2_000;
const ERROR_TAIL_LENGTH_MAX = 4_000;
/** How long after a misaddressed answer the right one may still come. */
const MISADDRESSED_MS = 1_000;

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (failure: RpcFailure) => void;
}

export function startRpc(program: RpcProgram, clock: Clock): StdioRpc {
  const child = startProgram(program.program, program.args, {
    cwd: program.cwd,
    env: program.environment,
    detached: true, // J4
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  return new ChildRpc(child, clock);
}

class ChildRpc implements StdioRpc {
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #clock: Clock;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners: ((method: string) => void)[] = [];
  #lastId = 0;
  #errorTail = '';
  #closing: string | null = null;
  #gone = false;

  constructor(child: ChildProcess, clock: Clock) {
    this.#child = child;
    this.#clock = clock;
    child.stdout?.on(
      'data',
      lineReader(line => this.#take(line)),
    );
    child.stdout?.once('end', () => this.#deaf());
    child.stderr?.on('data', (chunk: Buffer) => this.#keep(chunk.toString('utf8')));
    // A child that does not read any more: its end is told by `exit`, the write error adds nothing.
    child.stdin?.on('error', error => this.#keep(`[input] ${error.message}\n`));
    this.ended = new Promise(resolve => {
      child.once('error', error => resolve(this.#end(`could not be started: ${error.message}`)));
      child.once('exit', (code, signal) =>
        resolve(this.#end(signal === null ? `exited with ${code}` : `was ended by ${signal}`)),
      );
    });
  }

  get pid(): number | null {
    return this.#child.pid ?? null;
  }

  onNotification(listener: (method: string) => void): void {
    this.#listeners.push(listener);
  }

  request(method: string, params: object, options: RpcRequestOptions): Promise<unknown> {
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      if (this.#gone) {
        reject(new RpcFailure('down', 'the server is not running'));
        return;
      }
      const settle = (): void => {
        this.#clock.clearTimeout(timer);
        options.signal?.removeEventListener('abort', cancel);
        this.#waiting.delete(id);
      };
      const giveUp = (kind: 'timeout' | 'cancelled', message: string): void => {
        settle();
        this.notify('notifications/cancelled', { requestId: id, reason: message });
        reject(new RpcFailure(kind, message));
      };
      const cancel = (): void => giveUp('cancelled', 'the caller cancelled');
      const timer = this.#clock.setTimeout(
        () => giveUp('timeout', `no answer within ${options.timeoutMs} ms`),
        options.timeoutMs,
      );
      this.#waiting.set(id, {
        resolve: result => {
          settle();
          resolve(result);
        },
        reject: failure => {
          settle();
          reject(failure);
        },
      });
      options.signal?.addEventListener('abort', cancel, { once: true });
      this.#send({ jsonrpc: '2.0', id, method, params });
      if (options.signal?.aborted === true) cancel();
    });
  }

  notify(method: string, params: object): void {
    if (!this.#gone) this.#send({ jsonrpc: '2.0', method, params });
  }

  async close(why: string): Promise<ProcessEnd> {
    if (this.#closing === null) {
      this.#closing = why;
      this.#child.stdin?.end();
      const term = this.#clock.setTimeout(() => this.#signal('SIGTERM'), POLITE_MS);
      const kill = this.#clock.setTimeout(() => this.#signal('SIGKILL'), 2 * POLITE_MS);
      void this.ended.then(() => {
        this.#clock.clearTimeout(term);
        this.#clock.clearTimeout(kill);
      });
    }
    return this.ended;
  }

  kill(why: string): void {
    this.#closing ??= why;
    this.#signal('SIGKILL');
  }

  #send(message: object): void {
    this.#child.stdin?.write(`${JSON.stringify(message)}\n`);
  }

  #take(line: Line): void {
    if (line.kind === 'too_long') {
      this.#tooLong(line);
      return;
    }
    const message = parseObject(line.text);
    if (message === null) {
      if (line.text.trim() !== '') this.#keep(`[output] ${line.text.slice(0, 200)}\n`);
      return;
    }
    const { id, method, error, result } = message;
    if (typeof method === 'string') {
      if (id === undefined) for (const listener of this.#listeners) listener(method);
      else this.#answer(id, method);
      return;
    }
    const asked = askedId(id);
    if (asked === null || asked > this.#lastId) {
      this.#misaddressed(id, error);
      return;
    }
    const waiting = this.#waiting.get(asked);
    if (waiting === undefined) return; // J1
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(refusal(error));
  }

  /** J1. Without it a request would wait out its time for an answer that is there, but not its own. */
  #misaddressed(id: unknown, error: unknown): void {
    const named = JSON.stringify(id)?.slice(0, 80) ?? 'no id';
    const said = error === undefined ? '' : `: ${refusal(error).message.slice(0, 500)}`;
    const sentence = `an answer to ${named}, which was not asked${said}`;
    this.#keep(`[output] ${sentence}\n`);
    const [first, ...others] = this.#waiting;
    if (first === undefined || others.length > 0) return;
    const [asked, waiting] = first;
    const timer = this.#clock.setTimeout(() => {
      if (this.#waiting.get(asked) !== waiting) return;
      waiting.reject(new RpcFailure('refused', `the server gave ${sentence}`));
    }, MISADDRESSED_MS);
    void this.ended.then(() => this.#clock.clearTimeout(timer));
  }

  /** The server asks us: we offer nothing, but a ping deserves its answer. */
  #answer(id: unknown, method: string): void {
    if (method === 'ping') this.#send({ jsonrpc: '2.0', id, result: {} });
    else {
      const error = { code: -32_601, message: `this client does not offer ${method}` };
      this.#send({ jsonrpc: '2.0', id, error });
    }
  }

  /** J3: servers put the id at the beginning or at the end of their answer. */
  #tooLong(line: Extract<Line, { kind: 'too_long' }>): void {
    const found =
      /"id":\s*([0-9]{1,15})\s*\}$/.exec(line.tail.trimEnd()) ??
      /^\{(?:"jsonrpc":"2\.0",)?"id":\s*([0-9]{1,15})/.exec(line.head);
    const failure = new RpcFailure('too_large', `the answer has ${line.bytes} bytes`);
    this.#keep(`[output] a line of ${line.bytes} bytes was dropped\n`);
    this.#waiting.get(Number(found?.[1]))?.reject(failure);
  }

  /** Its output is closed but it lives: nothing can come from it any more. */
  #deaf(): void {
    const timer = this.#clock.setTimeout(() => this.kill('closed its output'), POLITE_MS);
    void this.ended.then(() => this.#clock.clearTimeout(timer));
  }

  #keep(text: string): void {
    this.#errorTail = `${this.#errorTail}${text}`.slice(-ERROR_TAIL_LENGTH_MAX);
  }

  #end(how: string): ProcessEnd {
    this.#gone = true;
    this.#signal('SIGKILL'); // J4: what it started must not outlive it.
    const reason = this.#closing === null ? how : `${this.#closing} (${how})`;
    for (const waiting of [...this.#waiting.values()]) {
      waiting.reject(new RpcFailure('down', `the server ${how}`)); // J2
    }
    return { reason, errorTail: this.#errorTail };
  }

  #signal(signal: 'SIGTERM' | 'SIGKILL'): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch (error) {
      // ESRCH: the whole group is gone already.
      if (!isErrno(error, 'ESRCH')) throw error;
    }
  }
}

interface AnyMessage {
  readonly id?: unknown;
  readonly method?: unknown;
  readonly error?: unknown;
  readonly result?: unknown;
}

function parseObject(text: string): AnyMessage | null {
  if (!text.trimStart().startsWith('{')) return null;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : null;
  } catch {
    return null; // Not a message: the caller notes it as junk.
  }
}

/** The number of a request that an answer is for: JSON-RPC wants it back as it was, but some quote it. */
function askedId(id: unknown): number | null {
  if (typeof id === 'number' && Number.isInteger(id) && id > 0) return id;
  return typeof id === 'string' && /^[1-9][0-9]{0,14}$/.test(id) ? Number(id) : null;
}

function refusal(error: unknown): RpcFailure {
  const { code, message } = Object(error);
  return new RpcFailure(
    'refused',
    typeof message === 'string' ? message.slice(0, 8_000) : 'the server gave an error without text',
    typeof code === 'number' ? code : null,
  );
}
