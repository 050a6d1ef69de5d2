/** Shapes of answers that are not messages of the bus, for the description of the door. */
import { z } from '@hono/zod-openapi';
import { ERROR_CODES } from '../../../protocol/error-codes.ts';
import { WireError } from '../../../protocol/errors.ts';
import { BuildId, GatewayId, NodeId } from '../../../protocol/ids.ts';
import { ToolServerStatus } from '../../../protocol/mcp.ts';
import {
  CapacityAdvert,
  GatewayAdvert,
  PlacementDecision,
  RuntimeAdvert,
} from '../../../protocol/node.ts';

// The code of an error is read leniently (unknown ones become `internal`), which the description of
// the door has no word for.
z.globalRegistry.add(WireError.shape.code, { type: 'string', enum: [...ERROR_CODES] });

export function json<S extends z.ZodType>(schema: S, description: string) {
  return { description, content: { 'application/json': { schema } } };
}

const problem = (description: string) => json(z.object({ error: WireError }), description);

export const errorResponses = {
  400: problem('the request is wrong'),
  404: problem('there is no such thing'),
  409: problem('it contradicts the present state'),
  503: problem('not now; try again'),
} as const;

export const submittedSchema = z.object({
  id: BuildId,
  state: z.literal('received'),
  links: z.record(z.string(), z.string()),
});

export const decisionsSchema = z.object({
  decisions: z.array(z.object({ task: z.string(), attempt: z.int(), decision: PlacementDecision })),
});

export const nodesSchema = z.object({
  nodes: z.array(
    z.object({
      node: NodeId,
      seen_at: z.number(),
      capacity: CapacityAdvert.nullable(),
      runtime: RuntimeAdvert.nullable(),
      gateway: GatewayAdvert.nullable(),
    }),
  ),
});

export const toolServersSchema = z.object({
  servers: z.array(
    ToolServerStatus.extend({
      gateway: GatewayId,
      installed: z.boolean(),
      running: z.boolean(),
    }),
  ),
});
