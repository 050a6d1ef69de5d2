/**
 * Notices code that was left out: `// ... rest of code`, `# existing code here`, a function whose
 * body is a promise. A file with a hole in it must never be written: it would replace whole code by
 * half code. A whole file must not be refused either: that costs a turn, and the next answer has the
 * same line.
 *
 * E1: only what can be nothing but a hole decides alone. A comment that could also describe the code
 *     below it (`Same as above, but for lists`) counts where there is no code below it.
 * E2: what stands in strings, in block comments of several lines and in examples is not judged.
 */
import { type CodeLine, codeLines } from './code-lines.ts';

/** Changes to a file are not the file. */
const DIFF_START = /^\s*(?:diff --git |--- a\/|@@ -\d)/;
const CONFLICT = /^(?:<{7}|>{7}) /m;

/** What was left out, as a sentence with the line, or null. */
export function findElision(path: string, text: string): string | null {
  const isPatch = /\.(?:diff|patch)$/.test(path);
  if (!isPatch && (DIFF_START.test(text.slice(0, 400)) || CONFLICT.test(text))) {
    return `${path} holds changes instead of the file`;
  }
  if (/\.(?:md|mdx|markdown|rst|txt|csv)$/i.test(path)) {
    return isPlaceholder(text) && text.trim() !== '' ? `${path} holds only a placeholder` : null;
  }
  const lines = codeLines(path, text);
  const at = lines.findIndex((_, index) => isHole(path, lines, index));
  const line = lines[at];
  if (line === undefined) return null;
  const shown = text
    .split('\n', at + 1)
    [at]?.trim()
    .slice(0, 120);
  return `${path} line ${line.number} leaves code out: ${shown}`;
}

function isHole(path: string, lines: readonly CodeLine[], index: number): boolean {
  const line = lines[index];
  if (line === undefined || line.inside || (line.code === '' && line.comment === null))
    return false;
  if (line.comment !== null) {
    if (line.code === '' ? isHoleComment(lines, index, line.comment) : isHoleBehind(line)) {
      return true;
    }
    return isPromise(lines, index, line.comment);
  }
  return isHoleCode(path, lines, index);
}

const THINGS =
  '(?:code|file|implementation|functions?|methods?|class(?:es)?|components?|routes?|handlers?|endpoints?|logic|tests?|imports?|content|contents|page|script|module|styles?|rules|template|markup|config(?:uration)?|fields|properties|cases|setup|definitions?|statements|models|queries|body)';
const STAYS =
  '(?:here|goes here|go here|remains?(?: the same| unchanged| as is| as before)?|remaining|unchanged|(?:stays?|is|are|kept|keep)(?: the same| unchanged| as is| as before| here)|as (?:before|is|above)|the same(?: as (?:before|above))?|omitted(?: for brevity)?|omitted here|not shown|continues?(?: here)?|follows?|below|above)';

/** A comment that is nothing else: the whole of it says that code is missing. */
const SURE = new RegExp(
  `^(?:${[
    `(?:(?:add|keep|put|insert|include) )?(?:the )?rest of (?:the |this |your |my )?(?:[a-z]+ )?(?:code|file|implementation|class|component|module|script)(?: ${STAYS})*`,
    `(?:the )?rest of (?:the |this |your |my )?(?:[a-z]+ )?${THINGS},? ${STAYS}(?: ${STAYS})*`,
    `(?:the )?rest (?:of it )?${STAYS}(?: ${STAYS})*`,
    `(?:(?:keep|leave|include|insert|put|copy|paste) )?(?:the |all |your |any )*(?:existing|previous|unchanged) (?:[a-z]+ )?(?:code|file|implementation)(?:,? ${STAYS})*`,
    `(?:(?:keep|leave|include|insert|put|copy|paste) )?(?:the |all |your |any )*(?:existing|original|previous|remaining|other|unchanged) (?:[a-z]+ (?:(?:and|or) )?){0,3}${THINGS},? ${STAYS}(?: ${STAYS})*`,
    '(?:unchanged|no changes?(?: here| needed| below| above)?|(?:the )?same as (?:before|above|(?:in )?the (?:previous|original) (?:version|file|code|answer))|as before|and so on|etc|snip(?:ped)?|code continues(?: here| below)?)',
    '(?:(?:add|put|insert|write|place) )?(?:your|the|more|rest of the|remaining|actual|real|main)(?: own)? (?:[a-z]+ )?(?:code|logic|implementation)(?: goes| go)?(?: in)? here',
    '(?:code|implementation|logic|content)(?: goes| go)? here',
    '(?:to-?do|fixme|xxx)\\b[\\s:(),-]*(?:(?:implement|complete|finish|write|fill in|fill out|add)(?: (?:this|it|me|here|later|the|rest|of|logic|code|implementation|function|method|body|class|your|file|details?))*)',
    '(?:implement|fill in|complete)(?: (?:this|it|me|the))?(?: (?:rest|function|method|logic|code))?(?: here| later)?',
    '(?:full |actual )?implementation (?:here|omitted|left out|not shown|elided|goes here|to follow|details omitted)',
  ].join('|')})$`,
  'i',
);
/** Wherever it stands in a comment of its own. */
const SAID =
  /\b(?:omitted for (?:brevity|clarity|space)|(?:code|lines?|implementation|content|rest) (?:is |are |was |were )?(?:omitted|elided|truncated|snipped|left out)(?: here)?$|truncated for brevity|for brevity,? (?:the |i )|(?:keep|leave) the (?:rest|existing)\b.{0,40}\b(?:as is|unchanged|the same)|(?:rest|remainder) (?:of .{0,40} )?(?:is|remains?|stays?) (?:the same|unchanged|as before|as is))/i;
/** Behind or before dots. */
const DOTTED =
  /^(?:\(?(?:the |all |any |and |your )*(?:rest|existing|remaining|other|more|previous|unchanged|same|similar|omitted|etc|code|implementation|implement|logic|your|additional|further|original|add|keep|continue|see|as (?:before|above)|truncated|snip|handle|handlers?|tests?|methods?|functions?|routes?|imports?|fields)\b)/i;
const STAYS_SO = new RegExp(`\\b${STAYS}$`, 'i');
const DOTS = /\.\.\.|…/;

function isHoleComment(lines: readonly CodeLine[], index: number, comment: string): boolean {
  // An example or an ellipsis in the middle of a longer comment.
  if (continuesComment(lines, index) && continuesComment(lines, index + 2)) {
    if (/^(?:[.…\s]*|etc\.?)$/.test(comment)) return false;
  }
  const plain = withoutEnd(comment.replace(/^[[(<{]+/, ''), '])>}').trim();
  const words = withoutEnd(plain.replace(/^(?:\.\.+|…)[.…]*\s*/, ''), ' .…!:').trim();
  if (words === '') return DOTS.test(plain) && !goesOn(lines, index);
  if (isTailOfSentence(lines, index, plain)) return false;
  if (SURE.test(words)) return true;
  if (SAID.test(words) && words.length < 120) return true;
  const leads = /^(?:\.{2,}|…)/.test(plain);
  const ends = plain.endsWith('..') || plain.endsWith('…');
  if (leads && (DOTTED.test(words) || STAYS_SO.test(words)) && !goesOn(lines, index)) return true;
  if (!leads && ends && words.length < 80 && FORETOLD.test(words)) return isBare(lines, index);
  return SECTION.test(words) && isBare(lines, index);
}

/** With dots behind it, and nothing below. */
const FORETOLD =
  /^(?:(?:the |all |and |similar(?:ly)? |same )*(?:rest|other|remaining|more|additional|existing|etc|similar(?:ly)?|same|for (?:the )?other|for (?:the )?rest)\b)/i;
/** A heading over code that does not come. What only invites to add more is none. */
const SECTION = new RegExp(
  `^(?:(?:and |the |all |similar(?:ly)? |same (?:as above )?(?:but )?)*(?:for )?(?:the )?(?:rest of (?:the |this |your )?|other |remaining |existing )(?:[a-z]+ )?${THINGS})(?: (?:here|go here|below))*$|^(?:similar|same) (?:for|as|to|logic|code)\\b.{0,60}$`,
  'i',
);

function withoutEnd(text: string, units: string): string {
  let end = text.length;
  while (end > 0 && units.includes(text[end - 1] ?? ' ')) end -= 1;
  return text.slice(0, end);
}

/** The second line of a sentence, as in "first this ... / ... and then that". */
function continuesComment(lines: readonly CodeLine[], index: number): boolean {
  const before = lines[index - 1];
  return before !== undefined && before.comment !== null && before.code === '';
}

/** The last words of a sentence that began in the comment above: "so return the / existing code". */
function isTailOfSentence(lines: readonly CodeLine[], index: number, plain: string): boolean {
  if (!continuesComment(lines, index) || /^(?:\.{2,}|…|[A-Z])/.test(plain)) return false;
  return /[\w,'"`)]$/.test(lines[index - 1]?.comment ?? '');
}

/** Dots that take up those of the comment above: "first this ... / ... and then that". */
const goesOn = (lines: readonly CodeLine[], index: number): boolean =>
  continuesComment(lines, index) &&
  !/^(?:\.{2,}|…)\s*(?:more|rest|other|existing|remaining)\b/i.test(lines[index]?.comment ?? '') &&
  /(?:\.\.|…|,)$/.test((lines[index - 1]?.comment ?? '').slice(-2));

/** Whether no code follows at the comment's own depth: the block, or the file, ends there. */
function isBare(lines: readonly CodeLine[], index: number): boolean {
  const own = lines[index]?.indent ?? 0;
  for (let next = index + 1; next < lines.length; next++) {
    const line = lines[next];
    if (line === undefined || (line.code === '' && !line.inside)) continue;
    return line.indent < own || CLOSER.test(line.code);
  }
  return true;
}

const CLOSER = /^(?:[}\])]+[;,)]*|end|fi|done|esac|<\/[\w-]+>)/;

/** `return x; // ... rest of the checks`: a comment behind code. */
const isHoleBehind = ({ comment, code }: CodeLine): boolean =>
  comment !== null &&
  /^(?:\.{3}|…)\s*(?:rest|existing|remaining|other|unchanged|more)\b/i.test(comment) &&
  !/[,([{]$/.test(code);

/** Words of a body that was not written, where the body is empty but for them. */
const PROMISE =
  /(?:\b(?:to-?do|fixme|implement(?:ation)?|placeholder|your (?:code|logic|own)|(?:code|logic|handling|validation) (?:goes |go )?here|goes here|fill (?:in|out)|to be (?:done|written|added|implemented|defined)|not (?:yet )?implemented|coming soon|add .{1,40} here|would (?:go|be|come|happen) here|in (?:a )?(?:real|production|actual) (?:app|application|implementation|system|world|code|life)|similar (?:to|as|for)|same (?:as|logic)|omitted|elided)\b|^(?:\.{3}|…)|(?:\.{3}|…)$)/i;
/** The same where a value is given back: that alone may be all there is to do. */
const FIRM_PROMISE =
  /(?:^(?:to-?do|fixme)\b[\s:(),-]*(?:implement|add|write|complete|finish|fill|put|insert|define|replace (?:this|with)|actual)|\b(?:implement(?:ation)? (?:goes |go )?here|your (?:code|logic)(?: goes)? here|(?:code|logic) (?:goes |go )?here|not (?:yet )?implemented|placeholder (?:implementation|for|logic|value|until)|implement (?:this|the|me|actual|your|real)|(?:actual|real) (?:implementation|logic|code)\b))/i;
const NOTHING_WANTED =
  /\b(?:nothing|no-?op|noop|intentional(?:ly)?|deliberate(?:ly)?|on purpose|ignore[sd]?|not needed|unneeded|no need|by design|never (?:called|reached)|unreachable|optional|if (?:you )?(?:want|need|like)|subclass(?:es)?|override|abstract|already|unused|required by|interface)\b/i;
/** A body's statement that does nothing. */
const IDLE =
  /^(?:pass|\.\.\.|return(?: (?:None|null|nil|undefined|true|false|True|False|0|""|\[\]|\{\}|\(\)|NULL|self|this|Promise\.resolve\(\)))?|raise NotImplementedError(?:\(.*\))?|throw new (?:\w*)Error\(""\)|unimplemented!\(\)|todo!\(.*\)|panic\(""\)|;)\s*;?$/;

/** A function that holds nothing but a comment which promises code, and perhaps a value that is none. */
function isPromise(lines: readonly CodeLine[], index: number, comment: string): boolean {
  if (!PROMISE.test(comment) || NOTHING_WANTED.test(comment)) return false;
  const line = lines[index];
  if (line === undefined) return false;
  if (line.code !== '' && !IDLE.test(line.code)) return opensAndCloses(line);
  const up = edgeOf(lines, index, -1);
  const down = edgeOf(lines, index, 1);
  if (up.edge === null || !isOpener(up.edge) || up.edge.indent >= line.indent) return false;
  const { edge } = down;
  const ends = edge === null || edge.indent <= up.edge.indent || CLOSER.test(edge.code);
  if (!ends) return false;
  const gives = up.gives || down.gives || isValue(line.code);
  return !gives || FIRM_PROMISE.test(comment);
}

/** A statement that gives a value back, or refuses: more than nothing. */
const isValue = (code: string): boolean => /^(?:return .|raise|throw)/.test(code);

/** `function save() { /* to do * / }` on one line. */
const opensAndCloses = (line: CodeLine | undefined): boolean =>
  line !== undefined &&
  line.code.length < 300 &&
  /(?:\)|=>)\s{0,8}\{\s{0,8}\}[;,)]{0,4}$/.test(line.code);

const BODY_LINES_MAX = 40;

interface Edge {
  /** The nearest line of code that does something; null at the end of the file. */
  readonly edge: CodeLine | null;
  /** Whether a statement before it gives a value back. */
  readonly gives: boolean;
}

function edgeOf(lines: readonly CodeLine[], from: number, step: 1 | -1): Edge {
  let gives = false;
  for (let index = from + step, seen = 0; seen < BODY_LINES_MAX; index += step, seen++) {
    const line = lines[index];
    if (line === undefined) break;
    const isText = line.inside || /^""x*$/.test(line.code);
    if (line.code === '' || isText) continue;
    if (!IDLE.test(line.code)) return { edge: line, gives };
    gives ||= isValue(line.code);
  }
  return { edge: null, gives };
}

const CONTROL =
  /^(?:\}?\s?(?:if|else|elif|for|foreach|while|switch|match|catch|try|do|finally|with|unless|case|default)\b)/;

/** A line that opens the body of a function or method. */
const isOpener = ({ code }: CodeLine): boolean =>
  code.length < 400 &&
  !CONTROL.test(code) &&
  (/^(?:async )?def\b.*:$|^\).*:$/.test(code) ||
    /(?:\)|=>|\]|\w|>|\?)\s{0,8}\{$/.test(code) ||
    /^(?:def|function)\s[\w.]+/.test(code));

function isHoleCode(path: string, lines: readonly CodeLine[], index: number): boolean {
  const code = lines[index]?.code ?? '';
  if (!DOTS.test(code)) return false;
  const isPython = /\.pyi?$/.test(path);
  if (/^(?:\.\.\.|…)[,;]?$/.test(code)) {
    if (/\.ya?ml$/.test(path)) return false;
    return !isPython || isPythonHole(path, lines, index);
  }
  if (isPython && /^(?:async )?def\b.*:\s*\.\.\.$/.test(code))
    return isPythonHole(path, lines, index);
  // `def login...`, `function save() {...}`
  if (isPython) return /^(?:async )?(?:def|class) [\w ]+\.\.\.$/.test(code);
  return DEFINITION.test(code) || /(?:\)|=>)\s?\{\s?(?:\.\.\.|…)\s?\}[;,)]{0,4}$/.test(code);
}

/** Dots that end a definition. */
const DEFINITION =
  /^(?:async )?(?:def|class|function|const|export|public|private|fn|func)\b[^"'`]{0,300}(?:\.\.\.|…)\s?;?$/;

/** Dots of Python are a statement: the body of a class or an interface; in a function they are a hole. */
function isPythonHole(path: string, lines: readonly CodeLine[], index: number): boolean {
  if (path.endsWith('.pyi')) return false;
  const line = lines[index];
  if (line === undefined) return false;
  if (/^(?:async )?def\b/.test(line.code)) return !isDeclared(path, lines, index);
  const before = edgeOf(lines, index, -1).edge;
  // At the top of a file or behind other statements they stand for code.
  const opens = before?.code.endsWith(':') === true;
  if (before === null || (before.indent >= line.indent && !opens)) return line.code === '...';
  const opener = openerAbove(lines, index);
  return opener !== null && /^(?:async )?def\b/.test(opener.code)
    ? !isDeclared(path, lines, opener.number - 1)
    : false;
}

/** The nearest line above that is indented less: the head of the block, also of several lines. */
function openerAbove(lines: readonly CodeLine[], from: number): CodeLine | null {
  let indent = lines[from]?.indent ?? 0;
  for (let index = from - 1, seen = 0; index >= 0 && seen < BODY_LINES_MAX; index--, seen++) {
    const line = lines[index];
    if (line === undefined || line.inside || line.code === '' || line.indent >= indent) continue;
    indent = line.indent;
    if (!/^[)\]]/.test(line.code)) return line;
    indent = line.indent + 1;
    while (index > 0 && /^[)\]]/.test(lines[index]?.code ?? '')) index -= 1;
    index += 1;
  }
  return null;
}

/** Whether a definition is one of an interface: overloaded, abstract, of a protocol; or a test's stand-in. */
function isDeclared(path: string, lines: readonly CodeLine[], from: number): boolean {
  let indent = lines[from]?.indent ?? 0;
  if (/^(?:async )?def __(?:init|enter|exit|aenter|aexit|del)__\b/.test(lines[from]?.code ?? '')) {
    return true;
  }
  if (/(?:^|\/)(?:tests?\/|test_|conftest)|_test\.py$/.test(path)) return true;
  for (let index = from - 1; index >= 0; index--) {
    const line = lines[index];
    if (line === undefined || line.inside || line.code === '') continue;
    if (line.indent === (lines[from]?.indent ?? 0) && line.code.startsWith('@')) {
      if (
        /^@(?:[\w.]*\.)?(?:overload|abstractmethod|abstractproperty|abstract\w*)\b/.test(line.code)
      ) {
        return true;
      }
    }
    if (line.indent >= indent) continue;
    indent = line.indent;
    if (/^class\b/.test(line.code)) {
      return /\b(?:Protocol|ABC|ABCMeta|Interface|TypedDict|Base\w*)\b|(?:Protocol|Interface|Stub|Mock|Fake)\b/.test(
        line.code,
      );
    }
    if (/^if (?:typing\.)?TYPE_CHECKING/.test(line.code)) return true;
    if (indent === 0) return false;
  }
  return false;
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
