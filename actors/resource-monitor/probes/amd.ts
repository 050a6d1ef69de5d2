/**
 * AMD cards: sysfs first, and where it has no memory figures `amd-smi`, then `rocm-smi`.
 *
 * A1: one card is listed once: what a tool says fills the gaps of the card at the same address.
 * A2: a tool runs only where there is an AMD card whose memory is still unknown.
 */
import { type Card, type Findings, isSame, type Problem } from '../card.ts';
import { amdSysfsProbe } from './amd-sysfs.ts';
import { probeAmdSmi, probeRocmSmi } from './amd-tools.ts';
import type { Probe } from './site.ts';

const TOOLS: readonly Probe[] = [probeAmdSmi, probeRocmSmi];

export function amdProbe(): Probe {
  const probeSysfs = amdSysfsProbe();
  return async site => {
    const found = await probeSysfs(site);
    let cards = found.cards;
    const problems: Problem[] = [...found.problems];
    for (const probe of TOOLS) {
      if (cards.every(isMeasured)) break; // A2
      const said: Findings = await probe(site);
      cards = cards.map((card, place) => filled(card, said.cards, place));
      problems.push(...said.problems);
    }
    const unread = cards.filter(card => !isMeasured(card)).map(({ name, bus }) => `${name} ${bus}`);
    if (unread.length === 0) return { cards, problems: [] };
    problems.push({
      probe: 'amd',
      reason: `no readable memory of ${unread.join(', ')}: load amdgpu, install amd-smi, or declare node.gpus`,
    });
    return { cards, problems };
  };
}

const isMeasured = (card: Card): boolean => card.free_bytes !== null;

/** A1; tools that give no addresses list the cards in the order of the system. */
function filled(card: Card, said: readonly Card[], place: number): Card {
  if (isMeasured(card)) return card;
  const isNumbered = said.every(({ bus }) => bus === null);
  const same = isNumbered ? said[place] : said.find(other => isSame(card, other));
  if (same === undefined) return card;
  const { bus, uuid, processes, integrated } = card;
  return { ...same, bus, uuid: uuid ?? same.uuid, processes, integrated };
}
