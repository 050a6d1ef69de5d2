/**
 * English words as a generator needs them: singular, plural, and one name in every spelling a file
 * may want.
 */

const IRREGULAR: ReadonlyMap<string, string> = new Map(
  Object.entries({
    people: 'person',
    children: 'child',
    men: 'man',
    women: 'woman',
    mice: 'mouse',
    geese: 'goose',
    feet: 'foot',
    teeth: 'tooth',
    oxen: 'ox',
    wolves: 'wolf',
    knives: 'knife',
    wives: 'wife',
    lives: 'life',
    leaves: 'leaf',
    shelves: 'shelf',
    bookshelves: 'bookshelf',
    halves: 'half',
    thieves: 'thief',
    loaves: 'loaf',
    calves: 'calf',
    quizzes: 'quiz',
    indices: 'index',
    vertices: 'vertex',
    matrices: 'matrix',
    analyses: 'analysis',
    diagnoses: 'diagnosis',
    theses: 'thesis',
    crises: 'crisis',
    criteria: 'criterion',
    phenomena: 'phenomenon',
    cacti: 'cactus',
    fungi: 'fungus',
    alumni: 'alumnus',
    curricula: 'curriculum',
    movies: 'movie',
    cookies: 'cookie',
    pies: 'pie',
    ties: 'tie',
    selfies: 'selfie',
    brownies: 'brownie',
    smoothies: 'smoothie',
    hoodies: 'hoodie',
    calories: 'calorie',
    zombies: 'zombie',
    caches: 'cache',
    axes: 'axe',
    shoes: 'shoe',
    canoes: 'canoe',
    gases: 'gas',
    lenses: 'lens',
    canvases: 'canvas',
    atlases: 'atlas',
    aliases: 'alias',
    biases: 'bias',
  }),
);

const IRREGULAR_PLURAL: ReadonlyMap<string, string> = new Map(
  [...IRREGULAR].map(([many, one]) => [one, many]),
);

/** The same word for one and for many, or a word that has no plural. */
const UNCHANGED: ReadonlySet<string> = new Set(
  (
    'data metadata species series news equipment information software hardware furniture ' +
    'sheep fish deer money music feedback staff inventory media merchandise clothing luggage ' +
    'livestock'
  ).split(' '),
);

const SINGULAR_IN_S: ReadonlySet<string> = new Set(
  'gas lens canvas atlas alias bias christmas mathematics physics athletics sms gps dns css iris'.split(
    ' ',
  ),
);

const US_PLURAL =
  /(?:stat|\bb|minib|vir|bon|camp|cens|foc|octop|walr|syllab|corp|plus|cors|surpl|hippopotam)uses$/;

/** @returns the singular of one lower-case word; the word itself when it is not a plural. */
export function singular(word: string): string {
  const irregular = IRREGULAR.get(word);
  if (irregular !== undefined) return irregular;
  if (UNCHANGED.has(word) || SINGULAR_IN_S.has(word) || word.length < 4) return word;
  if (/(?:ss|us|is)$/.test(word) || !word.endsWith('s')) return compoundSingular(word);
  if (US_PLURAL.test(word)) return word.slice(0, -2);
  if (word.endsWith('ies')) return word.length > 4 ? `${word.slice(0, -3)}y` : word.slice(0, -1);
  if (/(?:sses|shes|ches|xes|zzes)$/.test(word)) return word.slice(0, -2);
  if (/(?:her|potat|tomat|ech|torped|vet|mosquit|volcan)oes$/.test(word)) return word.slice(0, -2);
  return word.slice(0, -1);
}

function compoundSingular(word: string): string {
  return /(?:sales|crafts|fire|police|work|business|chair|spokes)(?:men|women|people)$/.test(word)
    ? word.replace(/men$/, 'man').replace(/people$/, 'person')
    : word;
}

/** @returns the plural of one lower-case singular word. */
export function plural(word: string): string {
  const irregular = IRREGULAR_PLURAL.get(word);
  if (irregular !== undefined) return irregular;
  if (UNCHANGED.has(word) || singular(word) !== word) return word;
  if (/(?:sales|crafts|fire|police|work|business|chair|spokes)(?:man|woman)$/.test(word)) {
    return word.replace(/man$/, 'men');
  }
  if (/[^aeiou]y$/.test(word)) return `${word.slice(0, -1)}ies`;
  if (/(?:s|sh|ch|x|z)$/.test(word)) return `${word}es`;
  if (/(?:her|potat|tomat|ech|torped|vet|mosquit|volcan)o$/.test(word)) return `${word}es`;
  return `${word}s`;
}

/** Whether a lower-case word says "several". */
export function isPlural(word: string): boolean {
  return singular(word) !== word;
}

const LETTERS: ReadonlyMap<string, string> = new Map(
  Object.entries({ ß: 'ss', æ: 'ae', ø: 'o', å: 'a', ł: 'l', đ: 'd', ð: 'd', þ: 'th', œ: 'oe' }),
);

/**
 * @returns the text in lower-case ASCII letters, digits and single spaces; other scripts vanish.
 */
export function asciiWords(text: string): string[] {
  return text
    .replace(/([\p{Ll}\d])(\p{Lu})/gu, '$1 $2')
    .toLowerCase()
    .replace(/[ßæøåłđðþœ]/g, letter => LETTERS.get(letter) ?? '')
    .normalize('NFKD')
    .replace(/[\p{M}'’]/gu, '')
    .split(/[^a-z0-9]+/)
    .filter(word => word !== '');
}

/** `order_item` → `orderItem`. */
export function camel(name: string): string {
  return name.replace(/(?<!_)_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** `order_item` → `OrderItem`. */
export function pascal(name: string): string {
  const word = camel(name);
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** `order_item` → `order-item`. */
export function kebab(name: string): string {
  return name.replaceAll('_', '-');
}

/** `order_item` → `order item`. */
export function spaced(name: string): string {
  return name.replaceAll('_', ' ');
}

/** `order_item` → `an order item`. */
export function withArticle(name: string): string {
  const words = spaced(name);
  return /^(?:[aeio]|u(?!se|ni|ti|su|ku))/.test(words) ? `an ${words}` : `a ${words}`;
}
