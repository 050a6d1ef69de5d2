/**
 * Reports, appended to CODEGOD_REPORT.
 *
 * B1: a report that is too large for a message loses its records of tool calls first; a plan that is
 *     too large is a failure of the model.
 * B2: the bus keeps so many reports of a node at most, until a master has seen them. One that is
 *     refused for that is `overloaded`: whoever sends it tries again, ever more slowly.
 */
import { CodeGodError, toWireError } from '../../../protocol/errors.ts';
import { reportMessageId, reportSubject } from '../../../protocol/subjects.ts';
import type { TaskReport } from '../../../protocol/task.ts';
import type { Messenger } from '../../../runtime/messages.ts';
import type { ReportPort } from '../ports.ts';

export function createBusReports(messenger: Messenger): ReportPort {
  const append = async (report: TaskReport): Promise<void> => {
    const { node, attempt, lease } = report;
    const subject = reportSubject(node, report);
    const id = reportMessageId(report, lease);
    const stored = await messenger.append(subject, 'task.reported', report, { id, attempt });
    if (stored.kind === 'appended') return;
    throw new CodeGodError('overloaded', `the report was not stored: ${stored.kind}`); // B2
  };
  return {
    async send(report) {
      for (const smaller of [report, { ...report, tool_calls: [] }, tooLarge(report)]) {
        try {
          return await append(smaller);
        } catch (error) {
          if (toWireError(error).code !== 'too_large') throw error;
        }
      }
      throw new CodeGodError('internal', 'even the least report is too large');
    },
  };
}

const tooLarge = (report: TaskReport): TaskReport => ({
  ...report,
  outcome: 'failed',
  error: { code: 'too_large', message: 'the result does not fit a message' },
  blame: 'model',
  summary: 'the result does not fit a message',
  plan: null,
  commit: null,
  files: [],
  tool_calls: [],
});
