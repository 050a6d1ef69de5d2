/** What a process serves, with counters: the figures behind `$SRV.STATS`. */

export interface Endpoint {
  /** `node.reserve`. */
  readonly name: string;
  readonly subject: string;
  /** Null where every server of the subject gets every request. */
  readonly queue: string | null;
  requests: number;
  errors: number;
  last_error: string;
  processing_ms: number;
}

export class Endpoints {
  readonly #endpoints = new Set<Endpoint>();

  add(name: string, subject: string, queue: string | undefined): Endpoint {
    const endpoint: Endpoint = {
      name,
      subject,
      queue: queue ?? null,
      requests: 0,
      errors: 0,
      last_error: '',
      processing_ms: 0,
    };
    this.#endpoints.add(endpoint);
    return endpoint;
  }

  remove(endpoint: Endpoint): void {
    this.#endpoints.delete(endpoint);
  }

  list(): readonly Endpoint[] {
    return [...this.#endpoints];
  }
}
