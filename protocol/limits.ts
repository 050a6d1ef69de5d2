/**
 * Every bound of the wire in one place. Bytes and milliseconds; names end in their unit.
 * Anything larger than MESSAGE_BYTES_MAX travels as an artifact reference.
 */

/** A message on the bus: 256 KiB (stream setting `max_msg_size` agrees). */
export const MESSAGE_BYTES_MAX = 256 * 1024;
/** The prompt of a build, in UTF-16 code units. */
export const PROMPT_LENGTH_MAX = 32_768;
/** Tasks in one plan. */
export const TASKS_MAX = 40;
/** Tools offered to one task. */
export const TOOLS_PER_TASK_MAX = 8;
/** Globs or paths a task may own. */
export const OWNS_MAX = 64;
/** One relative path in a project. */
export const PATH_LENGTH_MAX = 240;
/** One generated file. */
export const FILE_BYTES_MAX = 1024 * 1024;
/** Files in one answer. */
export const FILES_PER_ANSWER_MAX = 128;
/** Tool calls in one answer. */
export const TOOL_CALLS_MAX = 128;
/** Text of a model's answer. */
export const ANSWER_LENGTH_MAX = 2 * 1024 * 1024;
/** Result of one tool call, as the worker sees it. */
export const TOOL_RESULT_BYTES_MAX = 256 * 1024;
/** Output of a check that is kept: its last 16 KiB. */
export const CHECK_OUTPUT_BYTES_MAX = 16 * 1024;
/** Attempts of one task that a model may use up. */
export const ATTEMPTS_MAX = 4;
/** Rounds of repair after failed checks. */
export const REPAIR_ROUNDS_MAX = 3;
/** Plans asked for before the build is given up. */
export const PLAN_ATTEMPTS_MAX = 3;
/** Deliveries of one message before it is a dead letter. */
export const DELIVERIES_MAX = 5;
/** A dead letter: the head of the message, and headers. */
export const DEAD_LETTER_BYTES_MAX = 32 * 1024;
/** Nodes shown or ranked. */
export const NODES_MAX = 1_024;
