/** A plan as a model writes it and the master accepts it: tasks with ids, dependencies and owned files. */
import { z } from 'zod';
import { TaskId } from './ids.ts';
import { OWNS_MAX, TASKS_MAX, TOOLS_PER_TASK_MAX } from './limits.ts';
import { ProjectPath } from './text.ts';

export const TaskType = z.enum([
  'contract',
  'backend',
  'frontend',
  'database',
  'api',
  'testing',
  'devops',
  'documentation',
  'integration',
  'bugfix',
  'refactor',
]);
export type TaskType = z.infer<typeof TaskType>;

export const PlanTask = z.looseObject({
  id: TaskId,
  title: z.string().min(1).max(256),
  type: TaskType,
  goal: z.string().max(8_192),
  acceptance: z.array(z.string().max(1_024)).max(32).default([]),
  /** Relative paths or globs (`*`, `**`) that this task alone may write. */
  owns: z.array(ProjectPath).min(1).max(OWNS_MAX),
  /** Paths whose text goes into the prompt. */
  reads: z.array(ProjectPath).max(OWNS_MAX).default([]),
  depends_on: z.array(TaskId).max(TASKS_MAX).default([]),
  /** `server.tool`, at most eight. */
  mcp_tools: z.array(z.string().max(128)).max(TOOLS_PER_TASK_MAX).default([]),
  optional: z.boolean().default(false),
  /** 1 to 10, higher first. */
  priority: z.int().min(1).max(10).default(5),
});
export type PlanTask = z.infer<typeof PlanTask>;

/** The command that decides whether the project is good. Run in the sandbox, at the project's root. */
export const PlanCheck = z.looseObject({
  command: z.array(z.string().min(1).max(1_024)).min(1).max(32),
  timeout_s: z.int().min(1).max(3_600).default(120),
});
export type PlanCheck = z.infer<typeof PlanCheck>;

export const Plan = z.looseObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,49}$/, 'a slug of at most 50 characters'),
  summary: z.string().max(4_096),
  stack: z.string().max(32),
  check: PlanCheck,
  tasks: z.array(PlanTask).min(1).max(TASKS_MAX),
});
export type Plan = z.infer<typeof Plan>;
