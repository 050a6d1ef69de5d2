/**
 * What an actor beside the bus server says of it to those who cannot look for themselves. Kept in the
 * bucket `codegod_server` under the server's own id, which differs from start to start.
 */
import { z } from 'zod';
import { EpochMs } from './text.ts';

export const ServerAttestation = z.looseObject({
  server_id: z.string().max(128),
  /** It syncs to disk before it acknowledges, as its monitoring port says. */
  sync_always: z.boolean(),
  server_version: z.string().max(64),
  /** Of Code-God, on the machine that says this. */
  release: z.string().max(64),
  at: EpochMs,
});
export type ServerAttestation = z.infer<typeof ServerAttestation>;
