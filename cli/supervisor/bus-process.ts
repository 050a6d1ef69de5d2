/**
 * The port of the supervision machine for the bus server that we run ourselves. While it runs, its
 * users are looked after: tokens expire, and a command that made one may have died before it told.
 */
import { closeSync } from 'node:fs';
import { fromCallback } from 'xstate';
import { launchNatsServer, type RunningServer } from '../../runtime/nats-server/launch.ts';
import { type BusWatch, watchBus } from './bus-watch.ts';
import type { ProcessCommand, ProcessEvent, ProcessInput } from './child-machine.ts';
import { appendLog, openLog } from './log-file.ts';

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
const USERS_EVERY_MS = 5_000;

export const busProcess = (
  command: BusCommand,
  askEveryMs: number,
  tell: (sentence: string) => void = () => {},
) =>
  fromCallback<ProcessCommand, ProcessInput, ProcessEvent>(({ sendBack, receive, input }) => {
    let server: RunningServer | null = null;
    let asked: ProcessCommand['type'] | null = null;
    const obey = (): void => {
      if (server === null || asked === null) return;
      if (asked === 'process.kill') server.kill();
      else void server.stopLameDuck();
    };
    closeSync(openLog(command.stateFolder, BUS));
    let watch: BusWatch | null = null;
    let replaced: string | null = null;
    const say = (line: string): void => appendLog(command.stateFolder, BUS, line);
    const heard = (line: string): void => {
      say(line);
      watch?.line(line);
    };
    const live = async (): Promise<string> => {
      server = await launchNatsServer({
        ...command,
        port: portOf(input.details['url']) ?? command.port,
        monitoringPort: portOf(input.details['monitoring_url']) ?? command.monitoringPort,
        log: heard,
        waits: (why, waitedMs) =>
          tell(`${BUS} is not ready after ${Math.round(waitedMs / 1_000)} s: ${why}`),
      });
      const running = server;
      sendBack({ type: 'process.spawned', pid: server.pid });
      const details = { url: server.url, monitoring_url: server.monitoringUrl };
      sendBack({ type: 'process.ready', details });
      obey();
      watch = watchBus({
        monitoringUrl: running.monitoringUrl,
        storeDir: command.storeDir,
        askEveryMs,
        tell: trouble => sendBack({ type: 'process.trouble', trouble }),
        replace: reason => {
          say(reason);
          replaced = reason;
          running.kill();
        },
      });
      const refreshing = refreshUsers(running, say);
      const { code, signal } = await running.exited;
      clearInterval(refreshing);
      watch.stop();
      if (replaced !== null) return replaced;
      return signal === null ? `exit code ${code}` : `killed by ${signal}`;
    };
    void live()
      .catch((error: unknown) => (error instanceof Error ? error.message : String(error)))
      .then(reason => sendBack({ type: 'process.exited', reason }));
    receive(command => {
      asked = command.type;
      watch?.stop(); // Its end is bounded by the supervision machine.
      obey();
    });
    return () => {
      watch?.stop();
      server?.kill();
    };
  });

function refreshUsers(server: RunningServer, say: (line: string) => void): NodeJS.Timeout {
  let isBusy = false;
  const refresh = async (): Promise<void> => {
    if (isBusy) return;
    isBusy = true;
    try {
      await server.refreshUsers();
    } catch (error) {
      // The server goes on with the users it has; the next round tries again.
      say(
        `its users cannot be brought up to date: ${error instanceof Error ? error.message : error}`,
      );
    } finally {
      isBusy = false;
    }
  };
  return setInterval(() => void refresh(), USERS_EVERY_MS);
}

/** A server that comes back must come back where its clients look for it. */
function portOf(url: string | undefined): number | undefined {
  return url === undefined ? undefined : Number(new URL(url).port);
}
