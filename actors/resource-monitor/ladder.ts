/**
 * All probes for cards, side by side, and what they said before.
 *
 * L1: a probe has 12 s. One that does not come back, because its driver hangs where nothing can be
 *     killed, is not started a second time until it does: it holds one thread or process, ever.
 * L2: while a probe has a problem its last good figures stand, with the time they were taken. After
 *     a minute they are unknown; the card itself stays.
 * L3: what no probe found is taken from the bus, so that a card is never mistaken for none.
 */
import type { Clock } from '../../runtime/clock.ts';
import { type Card, type Findings, isSame, NOTHING, withoutFigures } from './card.ts';
import { pciProbe, unseen } from './probes/pci.ts';
import type { Probe, ProbeSite } from './probes/site.ts';

const PROBE_MS = 12_000;
export const GOOD_FOR_MS = 60_000;

export interface Rung {
  readonly name: string;
  readonly probe: Probe;
}

export class Ladder {
  readonly #rungs: readonly Rung[];
  readonly #bus: Rung;
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #last = new Map<string, readonly Card[]>();
  /** Since when a probe has not come back. */
  readonly #out = new Map<string, number>();

  constructor(rungs: readonly Rung[], clock: Clock, limitMs: number = PROBE_MS) {
    this.#rungs = rungs;
    this.#bus = { name: 'pci', probe: pciProbe() };
    this.#clock = clock;
    this.#limitMs = limitMs;
  }

  async climb(site: ProbeSite): Promise<Findings> {
    const [present, ...found] = await Promise.all([
      this.#look(this.#bus, site),
      ...this.#rungs.map(async rung => this.#remember(rung.name, await this.#look(rung, site))),
    ]);
    const cards = found.flatMap(findings => findings.cards);
    const others = unseen(present.cards, cards); // L3
    return {
      cards: [...cards, ...others.cards],
      problems: [...found, present, others].flatMap(findings => findings.problems),
    };
  }

  async #look({ name, probe }: Rung, site: ProbeSite): Promise<Findings> {
    const since = this.#out.get(name);
    if (since !== undefined) {
      return problem(name, `has not come back for ${seconds(this.#clock.monotonic() - since)} s`);
    }
    this.#out.set(name, this.#clock.monotonic());
    const over = new AbortController();
    const signal = AbortSignal.any([site.signal, over.signal]);
    const work = this.#answer(name, probe, { ...site, signal });
    const waiting = new AbortController();
    const late = this.#clock.sleep(this.#limitMs, waiting.signal).then(
      () => problem(name, `no answer within ${seconds(this.#limitMs)} s`),
      () => NOTHING, // Called off: the answer came.
    );
    const first = await Promise.race([work, late]);
    waiting.abort();
    over.abort();
    return first;
  }

  async #answer(name: string, probe: Probe, site: ProbeSite): Promise<Findings> {
    try {
      return await probe(site);
    } catch (error) {
      return problem(name, `failed: ${String(error)}`);
    } finally {
      this.#out.delete(name); // L1
    }
  }

  #remember(name: string, now: Findings): Findings {
    const cards = now.problems.length === 0 ? now.cards : this.#stand(name, now.cards);
    this.#last.set(name, cards);
    return { ...now, cards };
  }

  /** L2 */
  #stand(name: string, now: readonly Card[]): Card[] {
    const last = this.#last.get(name) ?? [];
    const fresh = now.map(card => {
      const earlier = last.find(other => isSame(other, card));
      return card.free_bytes === null && earlier !== undefined ? this.#aged(earlier) : card;
    });
    const missing = last.filter(earlier => now.every(card => !isSame(card, earlier)));
    return [...fresh, ...missing.map(card => this.#aged(card))];
  }

  #aged(card: Card): Card {
    // Before the clock was put back is old as well.
    const isOld = Math.abs(this.#clock.now() - card.measured_at) > GOOD_FOR_MS;
    return isOld ? withoutFigures(card) : card;
  }
}

const problem = (probe: string, reason: string): Findings => ({
  cards: [],
  problems: [{ probe, reason }],
});
const seconds = (milliseconds: number): number => Math.round(milliseconds / 1_000);
