/**
 * Whether a plan can be carried out: hard rules, all faults listed at once, so that one repaired
 * plan can mend them all. Pure; the tools are those that live servers offer now.
 *
 * V1: nothing unknown is dropped in silence: an unknown dependency or tool refuses the plan.
 * V2: no two tasks may write one file.
 * V3: the time it takes is bounded, whatever a plan within its limits holds.
 */
import { TASKS_MAX } from '../../protocol/limits.ts';
import type { Plan, PlanTask } from '../../protocol/plan.ts';
import { pathFault } from '../../protocol/text.ts';
import { nearestName } from '../../scheduling/model-names.ts';
import { overlapsOf } from './glob-overlap.ts';

const FAULTS_MAX = 32;
/** Faults that come with the nearest name: each is compared with every name there is. */
const HINTS_MAX = 8;
const TEST_PATH =
  /(^|\/)(tests?|__tests__|spec)\/|[._-](test|spec)\.[a-z]+$|(^|\/)test_[^/]*\.py$/i;

/** Everything that is wrong with the plan, as sentences; empty where it is good. */
export function planFaults(plan: Plan, tools: readonly string[]): string[] {
  return [
    ...sizeFaults(plan),
    ...idFaults(plan),
    ...dependencyFaults(plan),
    ...ownerFaults(plan),
    ...pathFaults(plan),
    ...toolFaults(plan, tools),
    ...proofFaults(plan),
  ].slice(0, FAULTS_MAX);
}

function sizeFaults(plan: Plan): string[] {
  if (plan.tasks.length === 0) return ['the plan has no task'];
  if (plan.tasks.length <= TASKS_MAX) return [];
  return [`the plan has ${plan.tasks.length} tasks; at most ${TASKS_MAX} are allowed`];
}

function idFaults(plan: Plan): string[] {
  const seen = new Set<string>();
  const faults: string[] = [];
  for (const { id } of plan.tasks) {
    if (seen.has(id)) faults.push(`the task id ${id} is used twice`);
    if (id === 'plan' || /^repair-\d+$/.test(id)) faults.push(`the task id ${id} is reserved`);
    seen.add(id);
  }
  return faults;
}

function dependencyFaults(plan: Plan): string[] {
  const byId = new Map<string, PlanTask>(plan.tasks.map(task => [task.id, task]));
  const hint = hints([...byId.keys()]);
  const faults: string[] = [];
  for (const task of plan.tasks) {
    for (const id of task.depends_on) {
      const dependency = byId.get(id);
      if (dependency === undefined) {
        faults.push(`${task.id} depends on ${id}, which is not a task${hint(id)}`);
      } else if (task.type === 'contract' && dependency.type !== 'contract') {
        faults.push(`the contract ${task.id} depends on ${id}, which is not a contract`);
      }
    }
  }
  const cycle = findCycle(byId);
  if (cycle !== null)
    faults.push(`the tasks ${cycle.join(' → ')} depend on each other in a circle`);
  return faults;
}

/** Ids of one circle of dependencies, or null. What is in none can be reached by doing the rest. */
function findCycle(byId: ReadonlyMap<string, PlanTask>): readonly string[] | null {
  const done = new Set<string>();
  const walk = (id: string, trail: readonly string[]): readonly string[] | null => {
    const at = trail.indexOf(id);
    if (at >= 0) return [...trail.slice(at), id];
    if (done.has(id)) return null;
    for (const next of byId.get(id)?.depends_on ?? []) {
      const cycle = walk(next, [...trail, id]);
      if (cycle !== null) return cycle;
    }
    done.add(id);
    return null;
  };
  for (const id of byId.keys()) {
    const cycle = walk(id, []);
    if (cycle !== null) return cycle;
  }
  return null;
}

/** V2 */
function ownerFaults(plan: Plan): string[] {
  const { overlaps, isCut } = overlapsOf(plan.tasks);
  const faults = overlaps.map(({ left, right, mine, theirs }) => {
    const what = mine === theirs ? mine : `${mine} and ${theirs}, which name the same files`;
    return `${left} and ${right} both own ${what}`;
  });
  if (!isCut) return faults;
  const patterns = plan.tasks.flatMap(({ owns }) => owns.filter(path => /[*?]/.test(path))).length;
  const much = `the ${patterns} patterns in what the tasks own are too many to be compared`;
  return [`${much}: name files and folders instead`, ...faults];
}

function pathFaults(plan: Plan): string[] {
  return plan.tasks.flatMap(task =>
    [...task.owns, ...task.reads].flatMap(path => {
      const fault = pathFault(path);
      return fault === null ? [] : [`the path ${path} of ${task.id} ${fault}`];
    }),
  );
}

/** V1 */
function toolFaults(plan: Plan, tools: readonly string[]): string[] {
  const known = new Set(tools);
  const hint = hints(tools);
  return plan.tasks.flatMap(task =>
    task.mcp_tools
      .filter(tool => !known.has(tool))
      .map(tool => `${task.id} wants the tool ${tool}, which does not exist${hint(tool)}`),
  );
}

/** What is likest to an unknown name; for the first ones (V3). */
function hints(names: readonly string[]): (unknown: string) => string {
  let left = HINTS_MAX;
  return unknown => {
    if (left <= 0) return '';
    left -= 1;
    const nearest = nearestName(unknown, names);
    return nearest === null ? '; there is none' : `; the nearest is ${nearest}`;
  };
}

/** A project that nothing tests cannot be told from a broken one. */
function proofFaults(plan: Plan): string[] {
  const faults: string[] = [];
  if (plan.check.command.every(word => word.trim() === ''))
    faults.push('there is no check command');
  const tested = plan.tasks.some(
    task => task.type === 'testing' || task.owns.some(path => TEST_PATH.test(path)),
  );
  if (!tested) faults.push('no task writes tests: one must be of type testing or own test files');
  return faults;
}
