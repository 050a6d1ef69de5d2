/**
 * Every file of a FastAPI service, each with the task that owns it.
 */

import type { ServiceSpec } from '../../request/spec.ts';
import { dockerignoreFile, readmeFile } from '../docs.ts';
import { openApi } from '../openapi.ts';
import { jsonText, type ProjectFile } from '../project-file.ts';
import { entityTask, entityTestsTask } from '../tasks.ts';
import { bodiesFile } from './bodies.ts';
import { collectionFile, entityBaseFile, queryFile } from './collection.ts';
import { entityTestFile } from './entity-test.ts';
import { entitiesFile, entityFile, fieldsFile } from './fields.ts';
import { bodyFile, errorsFile, mainFile, runFile } from './http.ts';
import { storeFile } from './store.ts';
import { conftestFile, serviceTestFile, storeTestFile } from './tests.ts';

const RUN_DEPENDENCIES = ['fastapi>=0.115', 'uvicorn>=0.30'];
const TEST_DEPENDENCIES = ['httpx>=0.27', 'pytest>=8'];

/** @returns the files in the order of the plan. */
export function fastapiProject(spec: ServiceSpec): ProjectFile[] {
  const file = (task: string, path: string, content: string): ProjectFile => ({
    path,
    content,
    task,
  });
  return [
    file('contract', 'openapi.json', jsonText(openApi(spec))),
    file('contract', 'pyproject.toml', pyproject(spec)),
    file(
      'contract',
      'requirements.txt',
      `${[...RUN_DEPENDENCIES, ...TEST_DEPENDENCIES].join('\n')}\n`,
    ),
    file('contract', '.gitignore', '__pycache__/\n.pytest_cache/\n.venv/\n*.egg-info/\ndata/\n'),
    file('store', 'app/__init__.py', `"""${spec.title}."""\n`),
    file('store', 'app/store.py', storeFile()),
    file('store', 'tests/test_store.py', storeTestFile()),
    file('rules', 'app/errors.py', errorsFile()),
    file('rules', 'app/fields.py', fieldsFile(spec)),
    file('rules', 'app/entity.py', entityBaseFile()),
    ...spec.entities.map(entity =>
      file(entityTask(entity), `app/entities/${entity.name}.py`, entityFile(spec, entity)),
    ),
    file('server', 'app/body.py', bodyFile()),
    file('server', 'app/query.py', queryFile()),
    file('server', 'app/collection.py', collectionFile()),
    file('server', 'app/entities/__init__.py', entitiesFile(spec)),
    file('server', 'app/main.py', mainFile(spec)),
    file('server', 'app/__main__.py', runFile()),
    file('tests', 'tests/__init__.py', '"""Tests of the service over HTTP."""\n'),
    file('tests', 'tests/entities/__init__.py', '"""Tests of each kind of record."""\n'),
    file('tests', 'tests/conftest.py', conftestFile()),
    file('tests', 'tests/bodies.py', bodiesFile(spec)),
    file('tests', 'tests/test_service.py', serviceTestFile(spec)),
    ...spec.entities.map(entity =>
      file(
        entityTestsTask(entity),
        `tests/entities/test_${entity.name}.py`,
        entityTestFile(spec, entity),
      ),
    ),
    file('docs', 'README.md', readmeFile(spec)),
    file('docs', 'Dockerfile', dockerfile()),
    file('docs', '.dockerignore', dockerignoreFile(['.venv', '**/__pycache__', 'tests'])),
  ];
}

function pyproject(spec: ServiceSpec): string {
  const list = (names: readonly string[]): string =>
    `[${names.map(name => `"${name}"`).join(', ')}]`;
  return `[project]
name = "${spec.name}"
version = "1.0.0"
requires-python = ">=3.10"
dependencies = ${list(RUN_DEPENDENCIES)}

[project.optional-dependencies]
test = ${list(TEST_DEPENDENCIES)}

[tool.pytest.ini_options]
testpaths = ["tests"]
filterwarnings = [
    # The test client warns about the successor of httpx, which not every index carries yet.
    "ignore:Using .httpx. with .starlette.testclient. is deprecated",
]
`;
}

function dockerfile(): string {
  return `FROM python:3.12-slim
WORKDIR /service
COPY pyproject.toml openapi.json ./
RUN pip install --no-cache-dir ${RUN_DEPENDENCIES.map(name => `"${name}"`).join(' ')} \\
    && useradd --no-create-home service \\
    && mkdir data \\
    && chown service data
COPY app ./app
USER service
ENV HOST=0.0.0.0 PORT=8000 DATA_FILE=/service/data/store.json
EXPOSE 8000
CMD ["python", "-m", "app"]
`;
}
