/** The port of the supervision machine for the bus server that we run ourselves. */
import { appendFileSync, closeSync } from 'node:fs';
import { fromCallback } from 'xstate';
import { launchNatsServer, type RunningServer } from '../../runtime/nats-server/launch.ts';
import type { ProcessCommand, ProcessEvent, ProcessInput } from './child-machine.ts';
import { logFile, openLog } from './log-file.ts';

export interface BusCommand {
  readonly binary: string;
  readonly configDir: string;
  readonly storeDir: string;
  readonly port?: number | undefined;
  readonly monitoringPort?: number | undefined;
  readonly host?: string | undefined;
  readonly token?: string | undefined;
  readonly stateFolder: string;
}

/** Name of the bus server among the children, and of its log. */
export const BUS = 'nats-server';

export const busProcess = (command: BusCommand) =>
  fromCallback<ProcessCommand, ProcessInput, ProcessEvent>(({ sendBack, receive, input }) => {
    let server: RunningServer | null = null;
    let asked: ProcessCommand['type'] | null = null;
    const obey = (): void => {
      if (server === null || asked === null) return;
      if (asked === 'process.kill') server.kill();
      else void server.stopLameDuck();
    };
    closeSync(openLog(command.stateFolder, BUS));
    const file = logFile(command.stateFolder, BUS);
    const live = async (): Promise<string> => {
      server = await launchNatsServer({
        ...command,
        port: portOf(input.details['url']) ?? command.port,
        monitoringPort: portOf(input.details['monitoring_url']) ?? command.monitoringPort,
        log: line => appendFileSync(file, `${line}\n`),
      });
      sendBack({ type: 'process.spawned', pid: server.pid });
      const details = { url: server.url, monitoring_url: server.monitoringUrl };
      sendBack({ type: 'process.ready', details });
      obey();
      const { code, signal } = await server.exited;
      return signal === null ? `exit code ${code}` : `killed by ${signal}`;
    };
    void live()
      .catch((error: unknown) => (error instanceof Error ? error.message : String(error)))
      .then(reason => sendBack({ type: 'process.exited', reason }));
    receive(command => {
      asked = command.type;
      obey();
    });
    return () => server?.kill();
  });

/** A server that comes back must come back where its clients look for it. */
function portOf(url: string | undefined): number | undefined {
  return url === undefined ? undefined : Number(new URL(url).port);
}
