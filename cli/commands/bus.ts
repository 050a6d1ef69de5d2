/** `pub`, `req`, `sub`: the bare bus, where the `nats` program may be absent. */
import { text } from 'node:stream/consumers';
import { decodeText } from '../../protocol/codec.ts';
import { HEADER } from '../../protocol/envelope.ts';
import type { BusMessage } from '../../runtime/bus.ts';
import { withBus } from '../bus-session.ts';
import type { CommandContext } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { onStopSignals } from '../stop-signals.ts';

export async function pub(
  context: CommandContext,
  subject: string,
  body: string | undefined,
): Promise<number> {
  const bytes = await readBody(body);
  await withBus(await context.config(), async ({ bus }) => {
    const refusals: string[] = [];
    bus.status(event => event.type === 'permission_denied' && refusals.push(event.subject));
    bus.publish(subject, bytes);
    await bus.rtt(); // A round trip: the server has it, or has said why not.
    if (refusals.length > 0) {
      throw new CliError('unauthorized', `this machine may not publish on ${subject}`);
    }
  });
  const result = { subject, bytes: bytes.length };
  context.terminal.result(result, () => `published ${bytes.length} bytes to ${subject}`);
  return EXIT.ok;
}

export async function req(
  context: CommandContext,
  subject: string,
  body: string | undefined,
  options: { readonly timeout: number },
): Promise<number> {
  const bytes = await readBody(body);
  const reply = await withBus(
    await context.config(),
    async ({ bus }) => await bus.ask(subject, bytes, { timeout_ms: options.timeout * 1_000 }),
  );
  const failure = reply.headers[HEADER.error];
  // A reply is data for programs already: it is printed as it came, with --json too.
  context.terminal.print(`${printable(reply.body)}\n`);
  if (failure === undefined) return EXIT.ok;
  context.terminal.note(`codegod: ${failure} (${reply.headers[HEADER.errorCode]})`);
  return EXIT.failed;
}

export async function sub(
  context: CommandContext,
  subject: string,
  options: { readonly count?: number },
): Promise<number> {
  const { terminal } = context;
  const countMax = options.count ?? Number.POSITIVE_INFINITY;
  await withBus(await context.config(), async ({ bus }) => {
    let count = 0;
    await new Promise<void>(resolve => {
      const release = onStopSignals(() => finish());
      const subscription = bus.subscribe(subject, message => {
        if (count >= countMax) return;
        count++;
        terminal.result(
          described(message),
          () => `[${message.subject}] ${printable(message.body)}`,
        );
        if (count >= countMax) finish();
      });
      const finish = (): void => {
        release();
        void subscription.stop().then(resolve);
      };
      terminal.note(`listening on ${subject}; end with Ctrl-C`);
    });
  });
  return EXIT.ok;
}

async function readBody(body: string | undefined): Promise<Uint8Array> {
  if (body !== undefined && body !== '-') return new TextEncoder().encode(body);
  if (body === undefined && process.stdin.isTTY) {
    throw new CliError('usage', 'no body', 'give it as an argument, or `-` to read it from stdin');
  }
  return new TextEncoder().encode(await text(process.stdin));
}

const printable = (body: Uint8Array): string =>
  decodeText(body) ?? `base64:${Buffer.from(body).toString('base64')}`;

const described = ({ subject, headers, body }: BusMessage): unknown => ({
  subject,
  headers,
  body: printable(body),
});
