/**
 * The diagram of a machine, as Mermaid's `stateDiagram-v2`, and the check that a README shows the
 * present one. `UPDATE=1` rewrites the README's first block that begins with `stateDiagram-v2`.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import type { AnyStateMachine, AnyStateNode } from 'xstate';

/** One line per transition: `from --> to : event [guard]`; nested states inside their parent. */
export function stateDiagram(machine: AnyStateMachine): string {
  return ['stateDiagram-v2', ...insideOf(machine.root, '  ')].join('\n');
}

export function assertReadmeDiagram(readmePath: string, machine: AnyStateMachine): void {
  const readme = readFileSync(readmePath, 'utf8');
  const found = BLOCK.exec(readme);
  assert(
    found !== null,
    `${readmePath} has no \`\`\`mermaid block that begins with stateDiagram-v2`,
  );
  const drawn = stateDiagram(machine);
  if (process.env['UPDATE'] === '1' && found[1] !== drawn) {
    writeFileSync(
      readmePath,
      readme.replace(BLOCK, () => `\`\`\`mermaid\n${drawn}\n\`\`\``),
    );
    return;
  }
  assert.equal(found[1], drawn, `${readmePath} shows an old diagram: run its test with UPDATE=1`);
}

const BLOCK = /```mermaid\n(stateDiagram-v2\n[\s\S]*?)\n```/;

function insideOf(node: AnyStateNode, indent: string): string[] {
  const children = Object.values(node.states);
  const nested = children.flatMap(child => stateLines(child, indent));
  const starts =
    node.type === 'parallel'
      ? []
      : node.initial.target.map(target => `${indent}[*] --> ${nameOf(target)}`);
  const own = node.parent === undefined ? transitionLines(node, indent) : [];
  const body = node.type === 'parallel' ? joinRegions(children, indent) : nested;
  return [...starts, ...body, ...own];
}

/** Regions of a parallel state stand beside each other, divided by `--`. */
function joinRegions(regions: readonly AnyStateNode[], indent: string): string[] {
  return regions.flatMap((region, index) => [
    ...(index === 0 ? [] : [`${indent}--`]),
    ...stateLines(region, indent),
  ]);
}

function stateLines(node: AnyStateNode, indent: string): string[] {
  const lines =
    Object.keys(node.states).length === 0
      ? []
      : [`${indent}state ${nameOf(node)} {`, ...insideOf(node, `${indent}  `), `${indent}}`];
  if (node.type === 'final') lines.push(`${indent}${nameOf(node)} --> [*]`);
  return [...lines, ...transitionLines(node, indent)];
}

function transitionLines(node: AnyStateNode, indent: string): string[] {
  const transitions = [...node.transitions.values(), node.always ?? []].flat();
  const lines = transitions.flatMap(({ target, eventType, guard }) => {
    const label = [eventLabel(node, eventType), guardLabel(guard)]
      .filter(part => part !== '')
      .join(' ');
    const targets = target ?? [node];
    return targets.map(to => `${indent}${nameOf(node)} --> ${nameOf(to)}${label && ` : ${label}`}`);
  });
  return [...new Set(lines)];
}

/** `execution.running` → `execution_running`; the root is called like its machine. */
const nameOf = (node: AnyStateNode): string =>
  node.path.length === 0 ? node.id.replace(/\W+/g, '_') : node.path.join('_').replace(/\W+/g, '_');

function eventLabel(node: AnyStateNode, eventType: string): string {
  const invoked = /^xstate\.(done|error|snapshot)\.actor\.(.+)$/.exec(eventType);
  if (invoked !== null) {
    const source = node.invoke.find(invoke => invoke.id === invoked[2])?.src;
    return `${typeof source === 'string' ? source : invoked[2]} ${invoked[1]}`;
  }
  const delayed = /^xstate\.after\.([^.]+)\./.exec(eventType);
  if (delayed !== null) return `after ${delayed[1]}`;
  return eventType.startsWith('xstate.done.state') ? 'done' : eventType;
}

function guardLabel(guard: unknown): string {
  if (guard === undefined) return '';
  if (typeof guard === 'string') return `[${guard}]`;
  const named = guard as { readonly type?: unknown; readonly name?: unknown };
  const name = named.type ?? named.name;
  return typeof name === 'string' && name !== '' ? `[${name}]` : '[guard]';
}
