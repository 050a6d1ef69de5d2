/**
 * Plans fit the schema, own every file once, and have no circles, whatever the prompt.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { TASKS_MAX } from '../../../../protocol/limits.ts';
import { Plan } from '../../../../protocol/plan.ts';
import { planFor } from './plan.ts';
import { renderProject } from './project/render-project.ts';
import { readRequest } from './request/read-request.ts';
import type { ServiceSpec } from './request/spec.ts';

function assertGoodPlan(spec: ServiceSpec): Plan {
  const plan = Plan.parse(planFor(spec));
  const owned = plan.tasks.flatMap(task => task.owns);
  const rendered = renderProject(spec).map(file => file.path);
  assert.deepEqual([...owned].sort(), [...rendered].sort());
  assert.equal(new Set(owned).size, owned.length, 'a file has two owners');
  assert.equal(new Set(plan.tasks.map(task => task.id)).size, plan.tasks.length);
  const done = new Set<string>();
  for (const task of plan.tasks) {
    for (const id of task.depends_on) assert.ok(done.has(id), `${task.id} waits for ${id}`);
    done.add(task.id);
  }
  return plan;
}

function specOf(prompt: string): ServiceSpec {
  const reading = readRequest(prompt);
  if (reading.kind === 'refused') throw new Error(reading.reason);
  return reading.spec;
}

describe('a plan', () => {
  test('for one entity has few tasks and checks with the test runner of its stack', () => {
    const plan = assertGoodPlan(
      specOf('Create a REST API for a todo list with title, done and due date'),
    );
    assert.deepEqual(
      plan.tasks.map(task => task.id),
      ['contract', 'store', 'rules', 'entity-todo', 'server', 'tests', 'tests-todo', 'docs'],
    );
    assert.deepEqual(plan.check.command, ['node', '--test']);
    const python = assertGoodPlan(specOf('REST API for notes in FastAPI'));
    assert.deepEqual(python.check.command, ['python', '-m', 'pytest', '-q']);
  });

  test('lets the entities of a library be written side by side', () => {
    const plan = assertGoodPlan(specOf('REST API for a library with books, members and loans'));
    const parallel = plan.tasks.filter(task => task.id.startsWith('entity-'));
    assert.equal(parallel.length, 3);
    assert.ok(parallel.every(task => task.depends_on.join() === 'rules'));
    assert.ok(plan.tasks.length <= 12);
  });

  test('stays within the limit with the largest number of entities', () => {
    const names =
      'books authors members loans users orders products invoices payments rooms events songs cars';
    const plan = assertGoodPlan(specOf(`API for ${names.replaceAll(' ', ', ')}`));
    assert.ok(plan.tasks.length <= TASKS_MAX, `${plan.tasks.length} tasks`);
  });

  test('is good for any two entities and stacks', () => {
    const word = fc.stringMatching(/^[a-z]{1,30}$/);
    fc.assert(
      fc.property(word, word, fc.boolean(), (one, other, python) => {
        const reading = readRequest(`API for ${one}s and ${other}s${python ? ' in FastAPI' : ''}`);
        if (reading.kind === 'spec') assertGoodPlan(reading.spec);
      }),
      { numRuns: 60 },
    );
  });
});
