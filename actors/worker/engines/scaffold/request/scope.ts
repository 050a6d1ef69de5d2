/**
 * What is clearly not a data-keeping service, told from the words of the request before anything
 * is read.
 */

import { anyOf } from './phrase-pattern.ts';

/** Words that ask for a service outright: with one of them any thing may be kept. */
const OUTRIGHT = `
  rest(?:ful)?, apis?, crud, backend, back-end, micro-?services?, web ?services?, endpoints?
  catalog(?:ue)?, collection, tracker, inventory, database, list of
  to track, to manage, to store, for managing, for tracking, store my, track my, manage my
`;

/** Words that speak of software or of keeping. */
const SERVICE = new RegExp(
  `\\b${anyOf(`${OUTRIGHT}
    services?, manager, management, registry, directory, organi[sz]er, store, storing, stores
    track, tracking, tracks, keep, keeping, manage, managing, app, application, log, record
    recording, system, platform, planner, save, saving, list
  `)}\\b`,
  'i',
);
const STRONG_SERVICE = new RegExp(`\\b${anyOf(OUTRIGHT)}\\b`, 'i');

const OTHER_WORK = new RegExp(
  `^\\W*(?:(?:please|can you|could you|help me(?: to)?)\\s+)*${anyOf(`
    fix, debug, repair, refactor, optimi[sz]e, translate, explain, summari[sz]e, train
    fine-?tune, solve, prove, compute, calculate, hack, draw, paint, sing, play, deploy
    review my, review the, port, sort, reverse, count, print, parse
  `)}\\b`,
  'i',
);

const OTHER_THING = new RegExp(
  `\\b${anyOf(`
    (?:3d|2d|video|mobile|browser|arcade|card|board|platform)[\\s-]+games?, game engine, a game
    compiler, interpreter, kernel, device driver, operating system, firmware, bootloader
    neural net(?:work)?, deep learning, machine learning, language model, llm, image classifier
    shader, blockchain, smart contract, chat ?bot, scraper, crawler, emulator, simulator
    (?:browser|chrome|vs ?code) extension, desktop app(?:lication)?, landing page
    (?:mobile|android|ios|iphone|ipad)[\\s-]+app(?:lication)?, screensaver
    poem, essay, haiku, novel, song about, story about
    algorithm, quicksort, fibonacci, prime numbers, shell script, regex
  `)}\\b`,
  'i',
);

/** Whether the text speaks of a service, or of keeping things. */
export function speaksOfService(text: string): boolean {
  return SERVICE.test(text);
}

/** @returns why the request is no data-keeping service, or null when it may be one. */
export function outOfScope(text: string): string | null {
  const work = OTHER_WORK.exec(text);
  if (work !== null) {
    return `The request asks for other work than building a service ("${clip(work[0])}").`;
  }
  const thing = OTHER_THING.exec(text);
  if (thing !== null && !STRONG_SERVICE.test(text)) {
    return `The request asks for something else than a data-keeping service ("${clip(thing[0])}").`;
  }
  return null;
}

function clip(text: string): string {
  return text.trim().replace(/\s+/g, ' ').slice(0, 40);
}
