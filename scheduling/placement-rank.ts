/**
 * Which of two offers is the better one.
 *
 * C1: an offer that needs a load ranks before a loaded copy only where it is clearly faster, so that
 *     small errors of estimates don't make models wander. Less is asked of one into free
 *     memory, which nobody has to leave for it.
 */
import type { PlacementRequest } from './placement.ts';
import type { Offer } from './placement-offer.ts';

/** By how much a load has to be faster than a loaded copy (C1). */
const HYSTERESIS_FACTOR = 1.1;
const HYSTERESIS_MS = 2_000;
const FREE_HYSTERESIS_MS = 1_000;
/** More than any time that is expected: nodes to avoid come last. */
const AVOIDED_MS = 1e12;

/** Whether it can be had now. */
export const takes = (offer: Offer): boolean => offer.when === 'takes';

/**
 * C1. The expected time, and what it takes to outweigh it.
 * @param ahead requests ahead for the same copy
 * @param waited_ms how long this one has waited
 * @param free_ms until a slot of the copy is free and the copy loaded, where who decides knows better
 */
export function rankMs(
  offer: Offer,
  request: PlacementRequest,
  ahead: number,
  waited_ms: number,
  free_ms?: number,
): number {
  const { total_ms, wait_ms, load_ms } = offer.score;
  const avoided = request.avoid.length > 0 && request.avoid.includes(offer.node) ? AVOIDED_MS : 0;
  if (offer.effort > 0 && offer.when === 'takes') {
    if (offer.effort === 1) return avoided + total_ms + FREE_HYSTERESIS_MS;
    return avoided + total_ms * HYSTERESIS_FACTOR + HYSTERESIS_MS;
  }
  const known = free_ms === undefined ? wait_ms : wait_ms + load_ms;
  return avoided + total_ms - known + waitMs(offer, ahead, waited_ms, free_ms);
}

/** Between offers of one rank. */
export function compareOffers(left: Offer, right: Offer): number {
  return (
    left.effort - right.effort || freeOf(right) - freeOf(left) || compareText(left.node, right.node)
  );
}

/** Who has waited for long already was told too little, and is told at least as much again. */
export function waitMs(offer: Offer, ahead: number, waited_ms: number, free_ms?: number): number {
  const { wait_ms, prefill_ms, decode_ms } = offer.score;
  const queued = (free_ms ?? wait_ms) + (ahead * (prefill_ms + decode_ms)) / offer.slots;
  return offer.when === 'waits' ? Math.max(queued, waited_ms) : queued;
}

export const freeOf = (offer: Offer): number => offer.state.room.free_bytes ?? 0;

export const compareText = (left: string, right: string): number =>
  left < right ? -1 : left > right ? 1 : 0;
