/**
 * `models keep`: rules for a model, kept on the bus until they are cleared. One that no machine can
 * keep is laid down all the same, and said to be so.
 */
import { NodeId } from '../../protocol/ids.ts';
import { ModelPolicy, policyKey } from '../../protocol/policy.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import type { Kv } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { canonicalModelName } from '../../scheduling/model-names.ts';
import { withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { type Unmet, unmetBy, unmetLines } from '../kept-copies.ts';
import { table } from '../terminal.ts';

const REPLICAS_MAX = 64;

export interface KeepOptions {
  readonly replicas?: number;
  readonly nodes?: readonly string[];
  readonly priority?: number;
  readonly ctx?: number;
  readonly clear: boolean;
}

/** Changes what is named and leaves the rest; without any of it only shows the rules. */
export async function keep(
  context: CommandContext,
  name: string,
  options: KeepOptions,
): Promise<number> {
  const model = canonicalModelName(name);
  const key = policyKey(model);
  const change = changeOf(options);
  const policy = await withBus(await context.config(), async ({ bus }) => {
    const bucket = bus.kv(BUCKETS.policy.name);
    if (options.clear) {
      await bucket.delete(key);
      return null;
    }
    const before = await readRule(bucket, key);
    if (Object.keys(change).length === 0) return before?.policy ?? null;
    const after = ModelPolicy.parse({
      ...(before?.policy ?? NO_RULES),
      ...change,
      model,
      at: systemClock.now(),
    });
    const bytes = new TextEncoder().encode(JSON.stringify(after));
    const revision = await bucket.update(key, bytes, before?.revision ?? 0);
    // A key that was deleted has a history: then it is created anew.
    if (revision === null && (await bucket.create(key, bytes)) === null) {
      throw new CliError('conflict', 'somebody changed the rules at the same moment; try again');
    }
    return after;
  });
  const unmet = policy === null ? null : await unmetBy(context, policy);
  context.terminal.result({ model, policy, unmet }, () => render(model, policy));
  if (unmet) context.terminal.note(unmetLines(model, unmet).join('\n'));
  return EXIT.ok;
}

/** Every rule, and what of it cannot be kept now. */
export async function kept(context: CommandContext, options: KeepOptions): Promise<number> {
  if (options.clear || Object.keys(changeOf(options)).length > 0) {
    throw new CliError('usage', 'a rule is for a model: `codegod models keep M …`');
  }
  const rules = await withBus(await context.config(), async ({ bus }) => {
    const bucket = bus.kv(BUCKETS.policy.name);
    const read: ModelPolicy[] = [];
    for (const key of await bucket.keys()) {
      const rule = (await readRule(bucket, key))?.policy;
      if (rule !== undefined) read.push(rule);
    }
    return read.sort((left, right) => (left.model < right.model ? -1 : 1));
  });
  const judged: Judged[] = [];
  for (const policy of rules) {
    judged.push({ model: policy.model, policy, unmet: await unmetBy(context, policy) });
  }
  context.terminal.result(judged, () => rulesTable(judged));
  for (const { model, unmet } of judged) {
    if (unmet) context.terminal.note(unmetLines(model, unmet).join('\n'));
  }
  return EXIT.ok;
}

interface Judged {
  readonly model: string;
  readonly policy: ModelPolicy;
  readonly unmet: Unmet | null | undefined;
}

function rulesTable(rules: readonly Judged[]): string {
  if (rules.length === 0) return 'no rules; `codegod models keep M --replicas 1` lays one down';
  return table([
    ['MODEL', 'KEPT', 'ONLY ON', 'PRIORITY', 'NOW'],
    ...rules.map(({ model, policy: { replicas_min, nodes, priority }, unmet }) => [
      ...[model, String(replicas_min), nodes.join(', ') || 'any machine', String(priority)],
      unmet === undefined ? '?' : unmet === null ? 'ok' : `${unmet.copies} of ${unmet.wanted}`,
    ]),
  ]);
}

const NO_RULES = { nodes: [], replicas_min: 0, priority: 0, context_tokens: null };

function changeOf(options: KeepOptions): Partial<ModelPolicy> {
  const { replicas, nodes, priority, ctx } = options;
  if (replicas !== undefined && !(Number.isInteger(replicas) && replicas >= 0 && replicas <= 64)) {
    throw new CliError('usage', `--replicas: expected a whole number from 0 to ${REPLICAS_MAX}`);
  }
  const bad = nodes?.find(node => !NodeId.safeParse(node).success);
  if (bad !== undefined) throw new CliError('usage', `--nodes: ${bad} is no name of a machine`);
  return {
    ...(replicas === undefined ? {} : { replicas_min: replicas }),
    ...(nodes === undefined ? {} : { nodes: nodes.map(node => NodeId.parse(node)) }),
    ...(priority === undefined ? {} : { priority }),
    ...(ctx === undefined ? {} : { context_tokens: ctx }),
  };
}

async function readRule(bucket: Kv, key: string) {
  const entry = await bucket.get(key);
  if (entry === null) return null;
  const policy = ModelPolicy.parse(JSON.parse(new TextDecoder().decode(entry.value)));
  return { policy, revision: entry.revision };
}

function render(model: string, policy: ModelPolicy | null): string {
  if (policy === null) return `${model}: no rules`;
  const { nodes, replicas_min, priority, context_tokens } = policy;
  const context = context_tokens === null ? '' : ` with ${context_tokens} tokens`;
  return [
    `${model}:`,
    `  copies kept loaded  ${replicas_min}${replicas_min === 0 ? '' : context}`,
    `  only on             ${nodes.join(', ') || 'any machine'}`,
    `  priority            ${priority}`,
  ].join('\n');
}
