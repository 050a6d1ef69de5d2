/**
 * The request to a node for one inference. The client's body is neither parsed nor written anew: its
 * bytes are put into the message, or, where there are many, beside it.
 *
 * I1: a body in the object store is removed when the inference is over; where this process dies
 *     first, the store's own bound on age removes it.
 */
import { encode, JSON_TYPE } from '../../../protocol/codec.ts';
import { HEADER } from '../../../protocol/envelope.ts';
import { toWireError } from '../../../protocol/errors.ts';
import type { InferRequest } from '../../../protocol/inference.ts';
import { MESSAGE_BYTES_MAX } from '../../../protocol/limits.ts';
import { ARTIFACTS } from '../../../protocol/streams.ts';
import type { ArtifactReference } from '../../../protocol/text.ts';
import type { Bus } from '../../../runtime/bus.ts';
import type { Logger } from '../../../runtime/log.ts';

/** What a message holds besides the body. */
const ENVELOPE_BYTES_MAX = 4_096;
const BODY = Buffer.from(',"body":');
const END = Buffer.from('}');

export type InferHead = Omit<InferRequest, 'body' | 'artifact'>;

export const inferHeaders = (traceparent: string) => ({
  [HEADER.contentType]: JSON_TYPE,
  [HEADER.traceparent]: traceparent,
});

export class InferBody {
  readonly #bus: Bus;
  readonly #log: Logger;
  readonly #name: string;
  readonly #bytes: Buffer;
  #artifact: ArtifactReference | null = null;

  /** `bytes` are a JSON object. */
  constructor(
    options: { readonly bus: Bus; readonly log: Logger },
    request: string,
    bytes: Buffer,
  ) {
    this.#bus = options.bus;
    this.#log = options.log;
    this.#name = `infer/${request}`;
    this.#bytes = bytes;
  }

  /** The message with this body, for one node. */
  async message(head: InferHead): Promise<Uint8Array> {
    if (this.#bytes.length > MESSAGE_BYTES_MAX - ENVELOPE_BYTES_MAX) {
      this.#artifact ??= await this.#store();
      return encode({ ...head, artifact: this.#artifact });
    }
    const text = JSON.stringify(head);
    return Buffer.concat([Buffer.from(text.slice(0, -1)), BODY, this.#bytes, END]);
  }

  /** I1 */
  async remove(): Promise<void> {
    if (this.#artifact === null) return;
    try {
      await this.#bus.objects(ARTIFACTS.name).delete(this.#name);
    } catch (error) {
      this.#log.warn('inference.body_left', { name: this.#name, error: toWireError(error) });
    }
  }

  async #store(): Promise<ArtifactReference> {
    const { name, sha256, size } = await this.#bus
      .objects(ARTIFACTS.name)
      .put(this.#name, this.#bytes);
    return { bucket: ARTIFACTS.name, name, sha256, size };
  }
}
