/**
 * Ids, branded so that one cannot be handed over for another. Every id is a safe NATS subject token:
 * lower case, `[a-z0-9-]`, at most 63 characters.
 *
 * I1: ids are parsed at the edge, before they touch a subject, a path or a git ref.
 */
import { z } from 'zod';

const token = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[a-z0-9][a-z0-9-]*$/, 'lower-case letters, digits and dashes only');

/** `b<stream sequence>` of the message in CODEGOD_BUILD. */
export const BuildId = z
  .string()
  .regex(/^b[1-9][0-9]{0,15}$/, 'a build id looks like b42')
  .brand<'BuildId'>();
export type BuildId = z.infer<typeof BuildId>;

/**
 * What tells a build from every other of its number: numbers begin again where the bus's store is
 * removed, replaced or put back to an older state. Made of the moment at which the bus stored the
 * request, so it is the same whoever reads it. Builds that were received before there were stamps
 * have none.
 */
export const BuildStamp = z
  .string()
  .regex(/^[a-z2-7]{8}$/, 'a stamp has eight characters of base32')
  .brand<'BuildStamp'>();
export type BuildStamp = z.infer<typeof BuildStamp>;

/** A build, wherever it matters that it is this one: whatever outlives a request is keyed by it. */
export interface StampedBuild {
  readonly build: BuildId;
  readonly stamp?: BuildStamp | undefined;
}

/** Names a build in journals, folders and git: `b42-k3x9a2bc`; without a stamp `b42`. */
export const buildKey = ({ build, stamp }: StampedBuild): string =>
  stamp === undefined ? build : `${build}-${stamp}`;

/** The build that such a name is of; null where it names none. */
export function buildOfKey(key: string): StampedBuild | null {
  const [number, stamp, ...more] = key.split('-', 3);
  const build = BuildId.safeParse(number);
  const known = BuildStamp.optional().safeParse(stamp);
  if (!build.success || !known.success || more.length > 0) return null;
  return stampedBuild({ build: build.data, stamp: known.data });
}

/** The two fields that name a build, and nothing else of what carries them. */
export const stampedBuild = ({ build, stamp }: StampedBuild): StampedBuild =>
  stamp === undefined ? { build } : { build, stamp };

/** A task of a plan: `plan`, `store`, `repair-1`. */
export const TaskId = z
  .string()
  .max(40)
  .regex(/^[a-z][a-z0-9-]*$/, 'a task id is a lower-case word like `store`')
  .brand<'TaskId'>();
export type TaskId = z.infer<typeof TaskId>;

/** A machine. Stable: kept on its disk. */
export const NodeId = token.brand<'NodeId'>();
export type NodeId = z.infer<typeof NodeId>;

/** A gateway; equal to the id of the node it runs on. */
export const GatewayId = token.brand<'GatewayId'>();
export type GatewayId = z.infer<typeof GatewayId>;

/**
 * A reservation of a node's memory: `<epoch>-<number>--<secret>`. Whoever shows the whole of it was
 * given it; what everybody may see of it is its name.
 */
export const LeaseId = token.brand<'LeaseId'>();
export type LeaseId = z.infer<typeof LeaseId>;

/** What adverts show: unique on the node, without the secret. The name of a name is itself. */
export const leaseNameOf = (lease: LeaseId): LeaseId => LeaseId.parse(lease.split('--', 1)[0]);

/** Attempts are counted from 1 within a task. */
export const ATTEMPT_MAX = 999;
export const Attempt = z.int().min(1).max(ATTEMPT_MAX);
export type Attempt = z.infer<typeof Attempt>;

export interface StampedAttempt extends StampedBuild {
  readonly task: TaskId;
  readonly attempt: Attempt;
}

/** The three fields or four that name an attempt, and nothing else of what carries them. */
export const stampedAttempt = (scope: StampedAttempt) => ({
  ...stampedBuild(scope),
  task: scope.task,
  attempt: scope.attempt,
});

/** Key of an attempt in journals: `b42-k3x9a2bc.store.1`. */
export const attemptKey = (scope: StampedAttempt): string =>
  `${buildKey(scope)}.${scope.task}.${scope.attempt}`;

/** The one idempotency key of a tool call: build, task, attempt and its place in the answer. */
export const CallId = z
  .string()
  .max(160)
  .regex(/^[a-z0-9][a-z0-9._-]*$/)
  .brand<'CallId'>();
export type CallId = z.infer<typeof CallId>;

export function buildIdOf(sequence: number): BuildId {
  return BuildId.parse(`b${sequence}`);
}

export function callIdOf(
  build: BuildId,
  task: TaskId,
  attempt: Attempt,
  turn: number,
  index: number,
): CallId {
  return CallId.parse(`${build}.${task}.${attempt}.${turn}.${index}`);
}
