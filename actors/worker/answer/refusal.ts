/** Recognises a refusal in plain words, where a model gives nothing else. */

const REFUSAL =
  /\b(?:I(?:'m| am) (?:sorry|unable|not able)|I (?:can(?:'|no)t|cannot|won't|will not) (?:help|assist|do|fulfil|complete|create|provide|continue)|as an AI)\b/i;

/** The sentence that refuses, or null. Only short answers without code are refusals. */
export function refusalIn(text: string): string | null {
  if (text.length > 2_000 || text.includes('```')) return null;
  const plain = text.replace(/’/g, "'");
  if (!REFUSAL.test(plain)) return null;
  return plain.trim().replace(/\s+/g, ' ').slice(0, 500);
}
