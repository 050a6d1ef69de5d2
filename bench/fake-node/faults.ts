/**
 * Faults on demand: rules that say which requests go wrong, and how. Set at `/_fake/behaviour`.
 *
 *   {"kind":"refuse","status":503,"times":3}              the next three requests are answered 503
 *   {"kind":"error","after_tokens":5,"model":"chat:8b"}   an error line after five tokens
 */
export type FaultKind =
  /** Nothing more comes; the connection stays. */
  | 'hang'
  /** Everything takes `factor` times as long; what takes no time, `delay_ms` per token. */
  | 'slow'
  /** An answer of `status`. */
  | 'refuse'
  /** An error line in an answer that began with 200. */
  | 'error'
  /** The connection breaks. */
  | 'cut'
  /** The stream ends in good order, without its last line. */
  | 'stop'
  /** The same token until Ollama gives up: 31 times, then no last line. */
  | 'repeat'
  /** The whole node dies. */
  | 'die';

export interface Fault {
  readonly kind: FaultKind;
  /** `/api/chat`; by default every request for tokens. */
  readonly path?: string;
  readonly model?: string;
  /** How often; by default always. */
  readonly times?: number;
  /** Of the requests that match; by default all. */
  readonly share?: number;
  readonly after_tokens?: number;
  readonly status?: number;
  readonly message?: string;
  readonly factor?: number;
  readonly delay_ms?: number;
}

const KINDS: ReadonlySet<string> = new Set<FaultKind>([
  ...(['hang', 'slow', 'refuse', 'error', 'cut', 'stop', 'repeat', 'die'] as const),
]);
const RULES_MAX = 64;

export class Faults {
  #rules: { readonly fault: Fault; left: number }[] = [];
  #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  get rules(): readonly Fault[] {
    return this.#rules.map(({ fault, left }) =>
      left === Number.POSITIVE_INFINITY ? fault : { ...fault, times: left },
    );
  }

  /** Throws where a rule makes no sense. */
  set(rules: readonly Fault[]): void {
    if (rules.length > RULES_MAX) throw new Error(`more than ${RULES_MAX} rules`);
    const odd = rules.find(({ kind }) => !KINDS.has(kind));
    if (odd !== undefined) throw new Error(`no such fault: ${odd.kind}`);
    this.#rules = rules.map(fault => ({ fault, left: fault.times ?? Number.POSITIVE_INFINITY }));
  }

  /** What goes wrong with a request: the first rule that matches. */
  next(path: string, model: string): Fault | null {
    if (this.#rules.length === 0) return null;
    const rule = this.#rules.find(
      ({ fault, left }) =>
        left > 0 &&
        (fault.path === undefined || fault.path === path) &&
        (fault.model === undefined || fault.model === model) &&
        (fault.share === undefined || this.#random() < fault.share),
    );
    if (rule === undefined) return null;
    rule.left -= 1;
    return rule.fault;
  }
}
