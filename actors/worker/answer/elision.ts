/**
 * Notices code that was left out: `// ... rest of code`, `to do: implement`, `def login...`. A file
 * with a hole in it must never be written: it would replace whole code by half code.
 */

const PHRASES =
  /(?:rest of (?:the )?(?:code|file|implementation|function|class)|(?:existing|previous|remaining|other) (?:code|methods|functions|routes|imports|tests)(?: (?:here|remains?|unchanged|stays?|goes))|(?:your|add|insert|more) (?:code|logic|implementation) (?:here|goes here)|implementation (?:goes )?here|(?:same|unchanged) as (?:before|above)|code omitted|omitted for brevity|\.\.\. ?(?:existing|rest|remaining|unchanged|other|more)\b)/i;
const COMMENT = /^\s*(?:\/\/|#|\/\*|<!--|--|;|\*|"""|{\/\*)/;
const DOTS_ALONE =
  /^\s*(?:(?:\/\/|#|\/\*|<!--|--|;|\*|{\/\*)\s*)?(?:\.\.\.|…)\s*(?:\*\/}?|-->)?\s*,?\s*$/;
const TO_DO_HOLE =
  /^\s*(?:\/\/|#|\/\*|<!--|--)\s*TO-?DO\b\s*(?::|\(|-)?\s*(?:implement|add|write|fill|complete|finish|handle|insert|put|define|replace)\b/i;
/** Dots that end a definition: `def login...`, `function save() {...}`. */
const DEFINITION =
  /^\s*(?:async )?(?:def|class|function|const|export|public|fn|func)\b[^"'`]*\.\.\.\s*}?;?\s*$/;

/** Changes to a file are not the file. */
const DIFF_START = /^\s*(?:diff --git |--- a\/|@@ -\d)/;
const CONFLICT = /^(?:<{7}|>{7}) /m;

/** What was left out, as a sentence with the line, or null. */
export function findElision(path: string, text: string): string | null {
  const isPatch = /\.(?:diff|patch)$/.test(path);
  if (!isPatch && (DIFF_START.test(text) || CONFLICT.test(text))) {
    return `${path} holds changes instead of the file`;
  }
  if (/\.(?:md|mdx|markdown|rst|txt|html?|csv|svg)$/i.test(path)) {
    return isPlaceholder(text) && text.trim() !== '' ? `${path} holds only a placeholder` : null;
  }
  const stub = /\.pyi?$/.test(path) && /\b(?:Protocol|ABC|abstractmethod|overload)\b/.test(text);
  let number = 0;
  for (const line of text.split('\n')) {
    number += 1;
    if (line.length > 400) continue;
    if (isElided(line, stub)) {
      return `${path} line ${number} leaves code out: ${line.trim().slice(0, 120)}`;
    }
  }
  return null;
}

function isElided(line: string, stub: boolean): boolean {
  if (DOTS_ALONE.test(line)) return !(stub && line.trim() === '...');
  if (TO_DO_HOLE.test(line)) return true;
  if (DEFINITION.test(line)) return !stub;
  return COMMENT.test(line) && PHRASES.test(line);
}

/** Whether a whole value stands for something else: empty, dots, `<content>`, "def login...". */
export function isPlaceholder(value: string): boolean {
  const text = value.trim();
  if (text === '') return true;
  if (text.length > 200 || text.includes('\n')) return false;
  return (
    /(?:\.\.\.|…)$/.test(text) ||
    /^(?:<[\w -]+>|\[[\w -]+\]|{[\w -]+}|\$file.*|see above|same as above|code|content|(?:the )?(?:full )?(?:file )?(?:code|content)s? (?:here|above|from above|of .*))$/i.test(
      text,
    )
  );
}
