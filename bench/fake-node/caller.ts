/** Whoever asked, as long as the connection stands: an AbortSignal at a fraction of its cost. */
export class Caller {
  gone = false;
  readonly #told = new Set<() => void>();

  hangUp(): void {
    this.gone = true;
    for (const tell of this.#told) tell();
    this.#told.clear();
  }

  onGone(tell: () => void): void {
    this.#told.add(tell);
  }

  offGone(tell: () => void): void {
    this.#told.delete(tell);
  }
}
