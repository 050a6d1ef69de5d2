/**
 * Says an answer at the pace of its model: tokens that are due are written, each in a chunk of its
 * own, those of one moment with one write.
 *
 * P1: the moments follow from the start, not from each other, so a late timer makes nothing later.
 * P2: whoever hangs up ends it at once: no token is made for nobody.
 * P3: the chunks are framed here and not by node:http, which would write each by itself.
 */
import type { ServerResponse } from 'node:http';
import type { Fault } from './faults.ts';
import type { Counts, ToolCall, Voice } from './voice.ts';

export interface Speech {
  readonly voice: Voice;
  readonly pieces: readonly string[];
  /** So many of the first pieces are a thought. */
  readonly thoughts: number;
  readonly calls: readonly ToolCall[];
  readonly reason: 'stop' | 'length';
  readonly promptTokens: number;
  /** Tokens, where there are others than pieces. */
  readonly outputTokens: number;
  readonly prefillMs: number;
  readonly tokenMs: number;
  readonly startedMs: number;
  readonly loadMs: number;
  readonly fault: Fault | null;
}

export type Ending = 'answered' | 'failed' | 'hung_up';

export interface Listener {
  /** Called once, with the tokens that were said. */
  ended(ending: Ending, tokens: number): void;
  die(): void;
}

const REPEATED = 31;
const LAST_CHUNK = '0\r\n\r\n';

export class Player {
  readonly #response: ServerResponse;
  readonly #speech: Speech;
  readonly #listener: Listener;
  readonly #beginMs = performance.now();
  readonly #faultAt: number;
  #sent = 0;
  #timer: NodeJS.Timeout | null = null;
  #ended = false;

  constructor(response: ServerResponse, speech: Speech, listener: Listener) {
    this.#response = response;
    this.#speech = speech;
    this.#listener = listener;
    const { fault } = speech;
    const faulty = fault !== null && fault.kind !== 'slow';
    this.#faultAt = faulty ? (fault.after_tokens ?? 1) : Number.POSITIVE_INFINITY;
  }

  play(): void {
    this.#step();
  }

  /** The other side has hung up. */
  stop(): void {
    this.#end('hung_up');
  }

  #step(): void {
    this.#timer = null;
    const { pieces, prefillMs, tokenMs, calls } = this.#speech;
    // A call is sent when all of its tokens are there.
    const total = calls.length > 0 ? this.#speech.outputTokens : pieces.length;
    const goneMs = performance.now() - this.#beginMs - prefillMs;
    let due = total;
    if (goneMs < 0) due = 0;
    else if (tokenMs > 0) due = Math.min(total, Math.floor(goneMs / tokenMs + 1e-6));
    if (due >= this.#faultAt) {
      this.#fail();
      return;
    }
    const open = due >= total ? this.#finish() : this.#say(due);
    if (this.#ended) return;
    const waitMs = Math.max(1, this.#beginMs + prefillMs + (due + 1) * tokenMs - performance.now());
    if (open) this.#timer = setTimeout(() => this.#step(), waitMs);
    else this.#response.once('drain', () => this.#ended || this.#step());
  }

  /** False: the other side reads too slowly. */
  #say(due: number): boolean {
    const { voice, calls } = this.#speech;
    const text = calls.length > 0 || !voice.streams ? '' : this.#frames(due);
    this.#sent = due;
    return text === '' || this.#write(text);
  }

  #frames(due: number): string {
    const { voice, pieces, thoughts } = this.#speech;
    let text = '';
    for (let index = this.#sent; index < due; index++) {
      text += frame(voice.piece(pieces[index] ?? '', index < thoughts));
    }
    return text;
  }

  #finish(): boolean {
    const { voice, calls, pieces, thoughts, outputTokens } = this.#speech;
    const counts = this.#counts();
    if (voice.streams) {
      const said = calls.length > 0 ? frame(voice.calls(calls)) : this.#frames(pieces.length);
      this.#head();
      // As bytes: a string of so many parts is slow to write.
      this.#response.end(Buffer.from(said + endFrames(voice.end(counts)) + LAST_CHUNK));
    } else {
      const text = calls.length > 0 ? '' : pieces.slice(thoughts).join('');
      const whole = { text, thinking: pieces.slice(0, thoughts).join(''), calls };
      sendText(this.#response, 200, voice.contentType, voice.whole(whole, counts));
    }
    this.#sent = outputTokens;
    this.#end('answered');
    return true;
  }

  #counts(): Counts {
    const { reason, promptTokens, outputTokens, prefillMs, startedMs, loadMs } = this.#speech;
    const now = performance.now();
    return {
      reason,
      promptTokens,
      outputTokens,
      loadMs,
      promptMs: prefillMs,
      outputMs: Math.max(0, now - this.#beginMs - prefillMs),
      totalMs: now - startedMs,
    };
  }

  #fail(): void {
    const { fault, voice } = this.#speech;
    this.#say(Math.min(this.#faultAt, this.#speech.pieces.length));
    switch (fault?.kind) {
      case 'hang':
        return;
      case 'die':
        this.#listener.die();
        return;
      case 'cut':
        // What was written goes out before the connection breaks.
        this.#response.write('', () => this.#response.destroy());
        return;
      case 'stop':
        this.#write(LAST_CHUNK);
        break;
      case 'repeat':
        this.#write(frame(voice.piece('la', false)).repeat(REPEATED) + LAST_CHUNK);
        break;
      default: {
        const message = fault?.message ?? 'an error was encountered while running the model';
        if (voice.streams) this.#write(frame(voice.error(message)) + LAST_CHUNK);
        else sendText(this.#response, 500, 'application/json', JSON.stringify({ error: message }));
      }
    }
    this.#response.end();
    this.#end('failed');
  }

  #write(text: string): boolean {
    this.#head();
    return this.#response.write(text);
  }

  #head(): void {
    if (this.#response.headersSent) return;
    this.#response.writeHead(200, {
      'content-type': this.#speech.voice.contentType,
      'transfer-encoding': 'chunked',
    });
    this.#response.chunkedEncoding = false;
  }

  #end(ending: Ending): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#listener.ended(ending, this.#sent);
  }
}

const frame = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

/** The events of an end are written one by one, as they are by Ollama. */
const endFrames = (text: string): string =>
  text.startsWith('data: ')
    ? (text
        .match(/[\s\S]*?\n\n/g)
        ?.map(frame)
        .join('') ?? '')
    : frame(text);

export function sendText(
  response: ServerResponse,
  status: number,
  contentType: string,
  text: string,
): void {
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(text),
  });
  response.end(text);
}

export const sendJson = (response: ServerResponse, status: number, value: unknown): void =>
  sendText(response, status, 'application/json; charset=utf-8', JSON.stringify(value));
