/**
 * `POST /api/embeddings`, as Ollama had it before `/api/embed`: one text in, one list of numbers out.
 * It is asked like the newer one, and the answer is put into the older shape.
 */
import type { Place, Receiver } from '../../pool/inference.ts';
import { type Answer, placeHeaders } from './answer.ts';
import type { Body } from './body.ts';

export function asEmbed({ value }: Body): Body {
  const { prompt, ...rest } = value;
  const newer = { ...rest, input: prompt ?? '' };
  return { value: newer, bytes: Buffer.from(JSON.stringify(newer)) };
}

export class EmbeddingReceiver implements Receiver {
  readonly wantsProgress = false;
  readonly #answer: Answer;
  readonly #chunks: Uint8Array[] = [];
  #place: Place = { node: '', model: '' };
  #status = 200;

  constructor(answer: Answer) {
    this.#answer = answer;
  }

  progress(): void {}

  head(place: Place, status: number): void {
    this.#place = place;
    this.#status = status;
  }

  write(chunk: Uint8Array): boolean {
    this.#chunks.push(chunk);
    return true;
  }

  drained(): Promise<void> {
    return Promise.resolve();
  }

  end(): void {
    const answer: unknown = JSON.parse(Buffer.concat(this.#chunks).toString('utf8'));
    const lists = (answer as { readonly embeddings?: readonly (readonly number[])[] }).embeddings;
    const value = lists === undefined ? answer : { embedding: lists[0] ?? [] };
    this.#answer.json(this.#status, value, placeHeaders(this.#place));
  }
}
