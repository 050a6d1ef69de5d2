/**
 * Whether machines can hold what a rule for a model wants: how many could, and why the others cannot.
 * By the same reckoning by which requests are placed, of the machines that are heard of now.
 */
import { PlacementDecision } from '../protocol/node.ts';
import type { ModelPolicy } from '../protocol/policy.ts';
import { sameModel } from '../scheduling/model-names.ts';
import type { CommandContext } from './context.ts';
import { CliError } from './exit-code.ts';
import { postToMaster } from './master-client.ts';
import { copiesOn, type NodeEntry, readNodes } from './pool-view.ts';

/** What a rule wants and does not get. */
export interface Unmet {
  /** Machines that could hold a copy, of so many that should. */
  readonly copies: number;
  readonly wanted: number;
  readonly nodes: readonly { readonly node: string; readonly reason: string }[];
}

type Candidate = PlacementDecision['candidates'][number];

/** Verdicts on a machine that has a copy, or could have one beside what is kept. */
const CAN: readonly string[] = ['loaded', 'loading', 'fits', 'evicts', 'busy'];
/** Of a kept copy for which the rule names none. */
const CONTEXT_TOKENS = 8_192;

/** Null where the rule can be kept, undefined where nobody can say now, which is noted. */
export async function unmetBy(
  context: CommandContext,
  policy: ModelPolicy,
): Promise<Unmet | null | undefined> {
  const { model, nodes } = policy;
  try {
    const answer = await postToMaster(await context.config(), '/place', {
      model,
      context_tokens: policy.context_tokens ?? CONTEXT_TOKENS,
      ...(nodes.length === 0 ? {} : { nodes }),
    });
    const { candidates } = PlacementDecision.parse(answer);
    return unmetOf(policy, candidates, await readNodes(context));
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    context.terminal.note(`which machines could hold ${model} is not known now: ${error.message}`);
    return undefined;
  }
}

export function unmetOf(
  policy: ModelPolicy,
  candidates: readonly Candidate[],
  entries: readonly NodeEntry[],
): Unmet | null {
  const { model, replicas_min } = policy;
  // A model that may run on some machines only is to run on one of them at least.
  const wanted = Math.max(replicas_min, policy.nodes.length > 0 ? 1 : 0);
  const names = policy.nodes.length > 0 ? policy.nodes : entries.map(({ node }) => node);
  const refusals = names.flatMap(node => {
    const own = candidates.filter(
      candidate => candidate.node === node && sameModel(candidate.model, model),
    );
    const entry = entries.find(one => one.node === node);
    if (own.some(candidate => holds(candidate, entry))) return [];
    const reason = own[0] === undefined ? absence(model, node, entry) : refusalOf(own[0]);
    return [{ node, reason }];
  });
  const copies = names.length - refusals.length;
  return copies >= wanted ? null : { copies, wanted, nodes: refusals };
}

/** Beside a card nothing is kept in main memory: it would be slow for good. */
function holds({ verdict }: Candidate, entry: NodeEntry | undefined): boolean {
  const hasCards = (entry?.capacity?.gpus.length ?? 0) > 0;
  return CAN.includes(verdict) || (verdict === 'cpu' && !hasCards);
}

function refusalOf({ verdict, reason }: Candidate): string {
  const isSlow = verdict === 'partial' || verdict === 'cpu';
  return isSlow ? `it fits on no card there, and nothing is kept beside one (${reason})` : reason;
}

function absence(model: string, node: string, entry: NodeEntry | undefined): string {
  if (entry === undefined) return 'no machine of this name is there';
  if (entry.runtime === null) return 'it is not heard of';
  if (copiesOn(entry, model)) return 'it takes nothing now';
  return `it does not have ${model}: \`codegod models pull ${model} --nodes ${node}\``;
}

/** As told to a person, one line for each machine. */
export function unmetLines(model: string, { copies, wanted, nodes }: Unmet): string[] {
  const there = copies === 0 ? 'no machine can' : `only ${copies} can`;
  const few =
    wanted === 1 ? `${there} hold it now` : `${there} hold it now, and ${wanted} copies are wanted`;
  const none = nodes.length === 0 ? ['  no machine is heard of'] : [];
  return [
    `${model}: the rule cannot be kept: ${few}; it is, when one can`,
    ...none,
    ...nodes.map(({ node, reason }) => `  ${node}: ${reason}`),
  ];
}
