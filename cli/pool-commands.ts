/** The commands of the pool: its machines, its models, where something would run, who may ask. */
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { command, count, labels, list, priority, type Run } from './command-line.ts';
import type { EstimateOptions } from './commands/estimate.ts';
import type { KeyOptions } from './commands/key.ts';
import type { KeepOptions } from './commands/model-policy.ts';
import type { PlaceOptions } from './commands/place.ts';

const KV_TYPES = ['f16', 'q8_0', 'q4_0', 'bf16', 'f32', 'q5_1', 'q5_0', 'q4_1'];
const SLOTS_MAX = 1_024;
const BATCH_MAX = 65_536;
const DRAFT_MAX = 1_024;
const BACKENDS = ['cuda', 'rocm', 'metal', 'vulkan', 'cpu'];

export function poolCommands(program: Command, run: Run): void {
  nodeCommands(program, run);
  estimateCommand(program, run);
  modelCommands(program.command('models'), run);
  keyCommands(program.command('key'), run);
}

function nodeCommands(program: Command, run: Run): void {
  command(program, 'nodes', 'the machines, their memory and models').action(() =>
    run(async context => (await import('./commands/nodes.ts')).nodes(context)),
  );
  command(program, 'ps', 'the models that are loaded now, and where').action(() =>
    run(async context => (await import('./commands/ps.ts')).ps(context)),
  );
  command(program, 'top', 'machines, cards and queue as they change (`q` ends)').action(() =>
    run(async context => (await import('./commands/top.ts')).top(context)),
  );
  command(program, 'explain <id>', 'where a build (b42) or a request (r-…) went, and why').action(
    (id: string) =>
      run(async context => (await import('./commands/explain.ts')).explain(context, id)),
  );
  command(program, 'place', 'where a request for a model would run now; loads the model there')
    .requiredOption('--model <model>', 'the model, or `auto`')
    .addOption(new Option('--ctx <tokens>', 'context').argParser(count).default(8_192))
    .addOption(new Option('--selector <labels>', 'room=attic,gpu=3090').argParser(labels))
    .addOption(new Option('--nodes <names>', 'only these machines').argParser(list))
    .option('--dry-run', 'only say where', false)
    .action((options: PlaceOptions) =>
      run(async context => (await import('./commands/place.ts')).place(context, options)),
    );
  command(program, 'drain <node>', 'let a machine finish what it does and take nothing new')
    .option('--off', 'take it back into service', false)
    .option('--wait', 'return when nothing is at work there any more', false)
    .action((node: string, options: { off: boolean; wait: boolean }) =>
      run(async context => (await import('./commands/drain.ts')).drain(context, node, options)),
    );
}

function estimateCommand(program: Command, run: Run): void {
  command(program, 'estimate [model]', 'the memory a model takes, and where it fits')
    .option('--show <file>', 'an Ollama /api/show answer with its size added (`-`: from stdin)')
    .option('--gguf <file>', 'a GGUF file, of which only the header is read')
    .option('--ctx <tokens>', 'context of one slot, such as 8192 or 32k', '8192')
    .addOption(
      new Option('--slots <n>', 'requests at once').argParser(wholeNumber(1, SLOTS_MAX)).default(1),
    )
    .addOption(new Option('--kv <type>', 'type of the cache').choices(KV_TYPES).default('f16'))
    .option('--gpu <sizes>', 'free memory of each card: 24GiB,8GiB or none; default: the own ones')
    .option('--ram <size>', 'free main memory, for what no card holds')
    .addOption(new Option('--backend <name>').choices(BACKENDS).default('cuda'))
    .option('--engine <version>', 'version of the Ollama that will run it, such as 0.17.4')
    .addOption(
      new Option('--batch <tokens>', 'tokens computed at once').argParser(
        wholeNumber(1, BATCH_MAX),
      ),
    )
    .option('--no-flash-attention', 'as engines run it where that is off')
    .option(
      '--unified',
      'slots share one cache of --ctx tokens, as in llama-server without -np',
      false,
    )
    .addOption(
      new Option('--draft <tokens>', 'tokens that predicting layers draft at once').argParser(
        wholeNumber(0, DRAFT_MAX),
      ),
    )
    .action((model: string | undefined, options: EstimateOptions) =>
      run(async context =>
        (await import('./commands/estimate.ts')).estimate(context, model, options),
      ),
    );
}

const wholeNumber =
  (least: number, most: number) =>
  (text: string): number => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}`);
  };

function modelCommands(models: Command, run: Run): void {
  models.description('models: list, pull, load, unload, keep, pin');
  command(models, 'list', 'every installed model, where it is and how fast').action(() =>
    run(async context => (await import('./commands/models.ts')).models(context)),
  );
  models.action(() => run(async context => (await import('./commands/models.ts')).models(context)));
  models.addOption(new Option('--json', 'print JSON on stdout'));
  command(models, 'pull <model>', 'bring a model to machines')
    .addOption(new Option('--nodes <names>', 'a,b; needed where there are several').argParser(list))
    .action((model: string, options: { nodes?: string[] }) =>
      run(async context =>
        (await import('./commands/model-pull.ts')).pull(context, model, options),
      ),
    );
  command(models, 'unload <model>', 'give its memory back now')
    .addOption(new Option('--nodes <names>', 'default: wherever it is loaded').argParser(list))
    .option('--force', 'also where it is at work', false)
    .action((model: string, options: { nodes?: string[]; force: boolean }) =>
      run(async context =>
        (await import('./commands/model-unload.ts')).unload(context, model, options),
      ),
    );
  command(models, 'keep [model]', 'keep copies loaded, pin to machines, give priority; all rules')
    .addOption(new Option('--replicas <n>', 'copies kept loaded; 0: none').argParser(Number))
    .addOption(new Option('--nodes <names>', 'the only machines it may run on').argParser(list))
    .addOption(new Option('--priority <n>', '-100 to 100').argParser(priority))
    .addOption(new Option('--ctx <tokens>', 'context of the kept copies').argParser(count))
    .option('--clear', 'forget all of this', false)
    .action((model: string | undefined, options: KeepOptions) =>
      run(async context => {
        const { keep, kept } = await import('./commands/model-policy.ts');
        return model === undefined ? kept(context, options) : keep(context, model, options);
      }),
    );
}

function keyCommands(key: Command, run: Run): void {
  key.description('API keys of the HTTP door');
  command(key, 'create <name>', 'a new key, shown once')
    .addOption(new Option('--requests-per-minute <n>').argParser(count))
    .addOption(new Option('--tokens-per-minute <n>').argParser(count))
    .addOption(new Option('--in-flight <n>', 'requests at once').argParser(count))
    .addOption(new Option('--models <names>', 'the only models it may use').argParser(list))
    .addOption(new Option('--priority <n>', '-100 to 100').argParser(priority).default(0))
    .option('--expires <time>', '12h, 30d or a date; default: never')
    .action((name: string, options: KeyOptions) =>
      run(async context => (await import('./commands/key.ts')).createKey(context, name, options)),
    );
  command(key, 'list', 'the keys there are').action(() =>
    run(async context => (await import('./commands/key.ts')).listKeys(context)),
  );
  command(key, 'revoke <id>', 'end a key at once').action((id: string) =>
    run(async context => (await import('./commands/key.ts')).revokeKey(context, id)),
  );
}
