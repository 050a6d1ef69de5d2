/**
 * One field phrase (`cooking time in minutes`, `status (open, closed)`, `email: string, required`)
 * to one field.
 *
 * An explicit type always wins; then values and ranges in brackets; then units; then the words of
 * the name.
 */

import {
  BOOLEAN_WORDS,
  DATE_WORDS,
  DATETIME_WORDS,
  INTEGER_WORDS,
  LIST_WORDS,
  NUMBER_WORDS,
  SIGNED_WORDS,
  SINGULAR_SENSE,
  TEXT_WORDS,
  TYPE_NAMES,
  UNITS,
  URL_WORDS,
} from './field-words.ts';
import { safeFieldName } from './reserved.ts';
import type { Field, FieldType } from './spec.ts';
import { asciiWords, isPlural, singular } from './words.ts';

/** A field as first read: whether it is required may still depend on its neighbours. */
export interface FieldDraft extends Omit<Field, 'required'> {
  readonly required: boolean | null;
}

const VALUES_MAX = 24;
const NAME_WORDS_MAX = 5;
const LEADING = new Set(
  (
    'a an the one its their his her each every some optional required mandatory unique new and or ' +
    'also my our your optionally maybe possibly any this that both either'
  ).split(' '),
);
const TRAILING = new Set(
  'field fields attribute attributes property properties column columns'.split(' '),
);
const CUT = new Set(
  'when that which who where whose for to from so because if while using on by as like such with without must should can will be of is are in at into per'.split(
    ' ',
  ),
);
const TYPE_FILLER =
  /\b(?:an?|the|of|type|value|field|as|is|be|should|must|not|null|primary|key|unique|optional|required|mandatory|nullable|default|auto(?:_?increment)?|max|min|e\.?g\.?)\b/g;

/**
 * Reads one field.
 * @param phrase the name with what surrounds it, without its brackets and type note
 * @param note what stood in brackets or behind a colon; empty when there was nothing
 * @returns the field, or null when no name is left (`id` is the service's own and also gives null)
 */
export function readField(phrase: string, note = ''): FieldDraft | null {
  const raw = asciiWords(phrase);
  const unit = unitOf(phrase);
  const listOf = /^(?:\W*(?:a|an|the))?\s*(?:list|array|set|collection)\s+of\b/i.test(phrase);
  const countOf = /^(?:\W*(?:a|an|the))?\s*(?:number|count|amount)\s+of\b/i.test(phrase);
  const named = nameWords(listOf || countOf ? raw.slice(raw.indexOf('of') + 1) : raw);
  const isFlag = named.length > 1 && named.at(-1) === 'flag';
  if (isFlag) named.pop();
  if (named.length === 0 || (named.length === 1 && named[0] === 'id')) return null;
  const measured = unit === null ? named : [...named, unit];
  const name = (countOf && named.length < 3 ? [...named.map(singular), 'count'] : measured).join(
    '_',
  );
  const all = `${phrase} ${note}`;
  const typed = typeOf(named, isFlag ? 'boolean' : note, { listOf, countOf, unit });
  return {
    name: safeFieldName(name.slice(0, 40).replace(/(?<!_)_+$/, '')),
    ...typed,
    target: null,
    required: /\boptional(?:ly)?\b|\bnullable\b|\?\s*$/i.test(all)
      ? false
      : /\brequired\b|\bmandatory\b|\bnot null\b/i.test(all)
        ? true
        : null,
  };
}

function nameWords(raw: readonly string[]): string[] {
  let start = 0;
  while (start < raw.length && LEADING.has(raw[start] ?? '')) start++;
  const cut = raw.findIndex(
    (word, index) =>
      index > start && CUT.has(word) && !(index === raw.length - 1 && /^(?:at|on|by)$/.test(word)),
  );
  const kept = raw.slice(start, cut < 0 ? undefined : cut);
  while (kept.length > 1 && TRAILING.has(kept.at(-1) ?? '')) kept.pop();
  return kept.slice(0, NAME_WORDS_MAX);
}

function unitOf(phrase: string): string | null {
  const unit = /\bin\s+([a-z€$£%]+)\s*$/i.exec(phrase)?.[1]?.toLowerCase() ?? '';
  return UNITS.has(unit) ? (asciiWords(unit)[0] ?? null) : null;
}

type Typed = Pick<Field, 'type' | 'values' | 'minimum' | 'maximum'>;

const plain = (type: FieldType, minimum: number | null = null): Typed => ({
  type,
  values: [],
  minimum,
  maximum: null,
});

function typeOf(
  named: readonly string[],
  note: string,
  hints: { listOf: boolean; countOf: boolean; unit: string | null },
): Typed {
  const minimum = named.some(word => SIGNED_WORDS.has(word)) ? null : 0;
  return (
    refined(typeOfNote(note, minimum), named) ??
    (hints.listOf ? plain('list') : null) ??
    (hints.countOf ? plain('integer', 0) : null) ??
    (hints.unit === null ? null : plain(UNITS.get(hints.unit) ?? 'number', minimum)) ??
    typeOfName(named, minimum)
  );
}

/** Who writes `email: string` still means an email address. */
function refined(typed: Typed | null, named: readonly string[]): Typed | null {
  const loose = typed?.type === 'string' || typed?.type === 'text';
  return loose && named.at(-1) === 'email' ? plain('email') : typed;
}

/**
 * `(easy, medium, hard)`, `(list)`, `(1-5)`, `: decimal`, `(in minutes)`; null when the note says
 * no type.
 */
function typeOfNote(note: string, minimum: number | null): Typed | null {
  if (note.trim() === '') return null;
  const range = /(?<!\d)(-?\d+)\s*(?:-|–|to|\.\.+|and)\s*(-?\d+)/.exec(note);
  if (range !== null) {
    const [low, high] = [Number(range[1]), Number(range[2])];
    if (low < high && Number.isSafeInteger(low) && Number.isSafeInteger(high)) {
      return {
        type: /\b(?:float|decimal|number)\b/i.test(note) ? 'number' : 'integer',
        values: [],
        minimum: low,
        maximum: high,
      };
    }
  }
  if (/\[\s*\]|\b(?:list|array|set)\b/i.test(note)) return plain('list');
  if (/\b(?:true|yes)\b\W+(?:or\s+)?\b(?:false|no)\b/i.test(note)) return plain('boolean');
  const lower = note.toLowerCase().replace(/\(\s*\d+(?:\s*,\s*\d+)?\s*\)/g, ' ');
  const said = asciiWords(lower.replace(TYPE_FILLER, ' '));
  const unit = UNITS.get(said.at(-1) ?? '');
  if (said.length <= 2 && unit !== undefined) return plain(unit, minimum);
  const type = said.length === 0 || said.length > 3 ? undefined : TYPE_NAMES.get(said[0] ?? '');
  if (/\bdate\s*(?:(?:and|\+|&)\s*)?time\b/.test(lower)) return plain('datetime');
  if (
    type !== undefined &&
    !/[,|/]/.test(lower.replace(/,\s*(?:optional|required|unique)\b/g, ''))
  ) {
    return plain(type as FieldType, type === 'integer' || type === 'number' ? minimum : null);
  }
  return enumOf(note) ?? (type === undefined ? null : plain(type as FieldType));
}

function enumOf(note: string): Typed | null {
  const inner = note
    .replace(/^\W*(?:enum|one of|either|choices?|values?|select|any of)\b\W*/i, '')
    .replace(/\b(?:optional|required|unique|default\W+\w+)\b/gi, '');
  const values = inner
    .split(/(?<!\s)\s*(?:,|\||\/|;|\bor\b|\band\b)\s*/i)
    .map(value => asciiWords(value.trim()).join('_'))
    .filter(value => value !== '' && value.length <= 40);
  const unique = [...new Set(values)].slice(0, VALUES_MAX);
  const wordy = unique.some(value => value.split('_').length > 3);
  return unique.length < 2 || wordy ? null : { ...plain('enum'), values: unique };
}

function typeOfName(named: readonly string[], minimum: number | null): Typed {
  const first = named[0] ?? '';
  const head = named.at(-1) ?? '';
  const phrase = named.join(' ');
  if (/^(?:is|has|can|was|should|allow|allows)$/.test(first) && named.length > 1)
    return plain('boolean');
  if (/^(?:max|maximum|min|minimum|total)$/.test(first) && isPlural(head))
    return plain('integer', 0);
  if (head === 'at' || DATETIME_WORDS.has(head)) return plain('datetime');
  if (named.length > 1 && head === 'on') return plain('date');
  if (/\b(?:email|mail)(?: address)?$/.test(phrase)) return plain('email');
  if (URL_WORDS.has(head)) return plain('url');
  if (head === 'time') return typeOfTime(named);
  if (DATE_WORDS.has(head)) return plain('date');
  if (BOOLEAN_WORDS.has(head) || phrase === 'in stock' || phrase === 'on sale')
    return plain('boolean');
  if (head === 'number' || head === 'no') return typeOfNumber(named);
  if (INTEGER_WORDS.has(head)) return plain('integer', head === 'year' ? null : minimum);
  if (NUMBER_WORDS.has(head)) return plain('number', minimum);
  if (TEXT_WORDS.has(head)) return plain('text');
  if (LIST_WORDS.has(head)) return plain('list');
  if (isPlural(head) && !SINGULAR_SENSE.has(head)) return plain('list');
  return plain('string');
}

function typeOfTime(named: readonly string[]): Typed {
  if (
    named.some(word => /^(?:start|starting|end|ending|departure|arrival|date|pickup)$/.test(word))
  ) {
    return plain('datetime');
  }
  const spent =
    /^(?:cook|cooking|prep|preparation|run|running|play|playing|reading|travel|baking|total)$/;
  return named.some(word => spent.test(word)) ? plain('integer', 0) : plain('string');
}

function typeOfNumber(named: readonly string[]): Typed {
  const counted = /^(?:track|page|episode|chapter|season|floor|lap|week)$/;
  if (named.length === 1) return plain('integer', 0);
  return named.some(word => counted.test(word)) ? plain('integer', 0) : plain('string');
}
