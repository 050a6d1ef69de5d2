/**
 * What is clearly not a data-keeping service, told from the words of the request before anything is read.
 */

const SERVICE =
  /\b(?:rest(?:ful)?|api|apis|crud|backend|back-end|micro-?services?|web ?services?|services?|endpoints?|database|tracker|manager|management|inventory|catalog(?:ue)?|registry|directory|organi[sz]er|store|storing|stores|track|tracking|tracks|keep|keeping|manage|managing|list of|collection|app|application|log|record|recording|system|platform|planner|save|saving)\b/i;

const OTHER_WORK =
  /^\W*(?:please\s+|can you\s+|could you\s+|help me\s+(?:to\s+)?)*(?:fix|debug|repair|refactor|optimi[sz]e|translate|explain|summari[sz]e|train|fine-?tune|solve|prove|compute|calculate|hack|draw|paint|sing|play|deploy|review my|review the|port)\b/i;

const OTHER_THING =
  /\b(?:(?:3d|2d|video|mobile|browser|arcade|card|board|platform)[\s-]+games?|game engine|a game|compiler|interpreter|kernel|device driver|operating system|neural net(?:work)?|deep learning|machine learning|language model|llm|image classifier|shader|firmware|bootloader|blockchain|smart contract|chat ?bot|web scraper|scraper|crawler|browser extension|chrome extension|vs ?code extension|desktop app(?:lication)?|(?:mobile|android|ios|iphone|ipad)[\s-]+app(?:lication)?|landing page|poem|essay|haiku|novel|song about|story about|sorting algorithm|algorithm|quicksort|fibonacci|prime numbers|shell script|regex|emulator|simulator|screensaver)\b/i;

const STRONG_SERVICE =
  /\b(?:rest(?:ful)?|api|apis|crud|backend|back-end|micro-?services?|web ?services?|endpoints?|catalog(?:ue)?|collection|tracker|inventory|database|list of|to track|to manage|to store|for managing|for tracking|store my|track my|manage my)\b/i;

/** Whether the text speaks of a service, or of keeping things. */
export function speaksOfService(text: string): boolean {
  return SERVICE.test(text);
}

/** @returns why the request is no data-keeping service, or null when it may be one. */
export function outOfScope(text: string): string | null {
  const work = OTHER_WORK.exec(text);
  if (work !== null)
    return `The request asks for other work than building a service ("${clip(work[0])}").`;
  const thing = OTHER_THING.exec(text);
  if (thing !== null && !STRONG_SERVICE.test(text)) {
    return `The request asks for something other than a data-keeping service ("${clip(thing[0])}").`;
  }
  return null;
}

function clip(text: string): string {
  return text.trim().replace(/\s+/g, ' ').slice(0, 40);
}
