/**
 * The plan of a project: one task per part, one per entity, one per entity's tests.
 *
 * P1  Every rendered file is owned by exactly one task.
 * P2  At most 40 tasks: six fixed ones and two for each of at most twelve entities.
 */

import type { Plan, PlanTask } from '../../../../protocol/plan.ts';
import type { ProjectFile } from './project/project-file.ts';
import { renderProject } from './project/render-project.ts';
import { entityTask, entityTestsTask } from './project/tasks.ts';
import type { Entity, ServiceSpec } from './request/spec.ts';
import { spaced } from './request/words.ts';

/** A plan before it is validated: ids are plain strings. */
export type PlanDraft = Omit<Plan, 'tasks'> & { readonly tasks: readonly PlanTaskDraft[] };
export type PlanTaskDraft = Omit<PlanTask, 'id' | 'depends_on'> & {
  readonly id: string;
  readonly depends_on: readonly string[];
};

type TaskText = Pick<PlanTaskDraft, 'id' | 'title' | 'type' | 'goal'> & {
  readonly acceptance: string[];
  readonly depends_on: readonly string[];
  readonly priority: number;
};

/** @returns the plan for a spec. */
export function planFor(spec: ServiceSpec): PlanDraft {
  const files = renderProject(spec);
  const kept = spec.entities.map(entity => spaced(entity.plural)).join(', ');
  const command = spec.stack === 'node' ? ['node', '--test'] : ['python', '-m', 'pytest', '-q'];
  const limits = spec.notes.length === 0 ? '' : ` ${spec.notes.join(' ')}`;
  return {
    name: spec.name,
    summary: `${spec.title}: a REST service that keeps ${kept}. Made by rule, no model.${limits}`,
    stack: spec.stack,
    check: { command, timeout_s: 120 },
    tasks: taskTexts(spec).map(text => withFiles(text, files)),
  };
}

function withFiles(text: TaskText, files: readonly ProjectFile[]): PlanTaskDraft {
  const owns = files.filter(file => file.task === text.id).map(file => file.path);
  const nested = owns.some(path => path.includes('/'));
  const tools = nested
    ? ['filesystem.create_directory', 'filesystem.write_file']
    : ['filesystem.write_file'];
  return { ...text, owns, reads: [], mcp_tools: tools, optional: false };
}

function taskTexts(spec: ServiceSpec): TaskText[] {
  const entityTasks = spec.entities.map(entityTask);
  return [
    {
      id: 'contract',
      title: 'Contract and package',
      type: 'contract',
      goal: 'Fix the OpenAPI contract, the package manifest and what git ignores.',
      acceptance: ['openapi.json describes every path, field and error of the service'],
      depends_on: [],
      priority: 9,
    },
    {
      id: 'store',
      title: 'Store',
      type: 'database',
      goal: 'Keep records in memory and save them to one JSON file, written atomically.',
      acceptance: ['Records survive a restart', 'A change that cannot be saved does not count'],
      depends_on: ['contract'],
      priority: 7,
    },
    {
      id: 'rules',
      title: 'Field rules and errors',
      type: 'backend',
      goal: 'Check every field type and give all errors one shape.',
      acceptance: ['A wrong value is named with its field and what would be right'],
      depends_on: ['contract'],
      priority: 7,
    },
    ...spec.entities.map(entityText),
    {
      id: 'server',
      title: 'HTTP service',
      type: 'api',
      goal: 'Serve CRUD, pages, filters and sorting for every collection, health and the contract.',
      acceptance: [
        'Every path of openapi.json answers',
        '400, 404, 405, 409, 413, 415 and 422 have one error shape',
      ],
      depends_on: ['store', 'rules', ...entityTasks],
      priority: 6,
    },
    {
      id: 'tests',
      title: 'Tests of the service',
      type: 'testing',
      goal: 'Start the service for tests and prove health, contract and the errors of HTTP.',
      acceptance: ['The tests start a real service and pass'],
      depends_on: ['server'],
      priority: 5,
    },
    ...spec.entities.map(entityTestsText),
    {
      id: 'docs',
      title: 'README and image',
      type: 'documentation',
      goal: 'Explain how to start, test and use the service, and how to run it in a container.',
      acceptance: ['Every command in README.md works as written'],
      depends_on: ['contract'],
      priority: 3,
    },
  ];
}

function entityText(entity: Entity): TaskText {
  const name = spaced(entity.name);
  return {
    id: entityTask(entity),
    title: `Definition of ${name}`,
    type: 'backend',
    goal: `Define the fields of ${name}: ${entity.fields.map(field => field.name).join(', ')}.`,
    acceptance: [`The definition agrees with openapi.json`],
    depends_on: ['rules'],
    priority: 6,
  };
}

function entityTestsText(entity: Entity): TaskText {
  const names = spaced(entity.plural);
  return {
    id: entityTestsTask(entity),
    title: `Tests of ${names}`,
    type: 'testing',
    goal: `Prove create, list, read, replace, change and delete for ${names}, and every refusal.`,
    acceptance: ['Every rule of every field has a test that breaks it'],
    depends_on: ['tests'],
    priority: 5,
  };
}
