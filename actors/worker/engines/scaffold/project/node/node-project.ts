/**
 * Every file of a Node service, each with the task that owns it.
 */

import type { ServiceSpec } from '../../request/spec.ts';
import { dockerignoreFile, readmeFile } from '../docs.ts';
import { openApi } from '../openapi.ts';
import { jsonText, type ProjectFile } from '../project-file.ts';
import { entityTask, entityTestsTask } from '../tasks.ts';
import { bodiesFile } from './bodies.ts';
import { collectionFile, queryFile, validateFile } from './collection.ts';
import { entitiesFile, entityFile } from './entity.ts';
import { entityTestFile } from './entity-test.ts';
import { appFile, errorsFile, httpFile, serverFile } from './http.ts';
import { rulesFile } from './rules.ts';
import { storeFile } from './store.ts';
import { serviceTestFile, storeTestFile, supportFile } from './tests.ts';

/** @returns the files in the order of the plan. */
export function nodeProject(spec: ServiceSpec): ProjectFile[] {
  const file = (task: string, path: string, content: string): ProjectFile => ({
    path,
    content,
    task,
  });
  return [
    file('contract', 'openapi.json', jsonText(openApi(spec))),
    file('contract', 'package.json', jsonText(packageJson(spec))),
    file('contract', '.gitignore', 'node_modules/\ndata/\n*.log\n'),
    file('store', 'src/store.js', storeFile()),
    file('store', 'test/store.test.js', storeTestFile()),
    file('rules', 'src/errors.js', errorsFile()),
    file('rules', 'src/rules.js', rulesFile(spec)),
    file('rules', 'src/validate.js', validateFile()),
    ...spec.entities.map(entity =>
      file(entityTask(entity), `src/entities/${entity.name}.js`, entityFile(spec, entity)),
    ),
    file('server', 'src/http.js', httpFile()),
    file('server', 'src/query.js', queryFile()),
    file('server', 'src/collection.js', collectionFile()),
    file('server', 'src/entities.js', entitiesFile(spec)),
    file('server', 'src/app.js', appFile()),
    file('server', 'src/server.js', serverFile()),
    file('tests', 'support/service.js', supportFile()),
    file('tests', 'support/bodies.js', bodiesFile(spec)),
    file('tests', 'test/service.test.js', serviceTestFile(spec)),
    ...spec.entities.map(entity =>
      file(
        entityTestsTask(entity),
        `test/entities/${entity.name}.test.js`,
        entityTestFile(spec, entity),
      ),
    ),
    file('docs', 'README.md', readmeFile(spec)),
    file('docs', 'Dockerfile', dockerfile()),
    file('docs', '.dockerignore', dockerignoreFile(['node_modules', 'test', 'support'])),
  ];
}

function packageJson(spec: ServiceSpec): object {
  return {
    name: spec.name,
    version: '1.0.0',
    private: true,
    type: 'module',
    engines: { node: '>=20' },
    scripts: { start: 'node src/server.js', test: 'node --test' },
  };
}

function dockerfile(): string {
  return `FROM node:22-alpine
WORKDIR /service
COPY package.json openapi.json ./
COPY src ./src
RUN mkdir data && chown node data
USER node
ENV HOST=0.0.0.0 PORT=3000 DATA_FILE=/service/data/store.json
EXPOSE 3000
CMD ["node", "src/server.js"]
`;
}
