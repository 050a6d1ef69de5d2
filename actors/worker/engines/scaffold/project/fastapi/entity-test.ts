/**
 * tests/entities/test_<name>.py of a FastAPI service: everything a client can do with one kind of
 * record.
 */

import type { Entity, Field, ServiceSpec } from '../../request/spec.ts';
import { spaced, withArticle } from '../../request/words.ts';
import { collectionPath } from '../openapi.ts';
import {
  changeableField,
  holdersOf,
  rightValues,
  sortableField,
  UNKNOWN_FIELD,
  wrongValues,
} from '../samples.ts';
import { bodyCall, bodyFunction } from './bodies.ts';
import { bracketed, fromImport, py } from './source.ts';

/** tests/entities/test_<name>.py */
export function entityTestFile(spec: ServiceSpec, entity: Entity): string {
  const holders = holdersOf(spec, entity);
  const bodies = [entity, ...holders.map(([holder]) => holder)].map(bodyFunction);
  const names = spaced(entity.plural);
  const cases = [
    crudTests(entity),
    pageTests(),
    sortTest(entity),
    fieldTests(entity),
    ...entity.fields.filter(field => field.type === 'reference').map(referenceTest),
    ...holders.map(([holder, field]) => holderTest(holder, field)),
  ].filter(part => part !== '');
  return `"""${names.charAt(0).toUpperCase()}${names.slice(1)}: what a client can do with them, and every way to get it wrong."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

${fromImport('tests.bodies', ['create', ...bodies])}

PATH = ${py(collectionPath(entity))}


@pytest.fixture
def body(client: TestClient) -> dict[str, Any]:
    return ${bodyCall(entity)}


def values_of(answer: Any, name: str) -> list[Any]:
    return [item[name] for item in answer.json()["items"]]


${cases.join('\n\n')}`;
}

/** The head of a test with the usual fixtures, broken when it is too long for one line. */
function definition(name: string): string {
  return bracketed(
    `def ${name}(`,
    ['client: TestClient, body: dict[str, Any]'],
    ') -> None:',
  ).replace(',\n)', '\n)');
}

function crudTests(entity: Entity): string {
  const field = changeableField(entity);
  const next = py(rightValues(field)[1]);
  return `def test_creates_and_gives_back(client: TestClient, body: dict[str, Any]) -> None:
    created = client.post(PATH, json=body)
    assert created.status_code == 201
    record = created.json()
    assert record == {**record, **body}
    assert created.headers["location"] == f"{PATH}/{record['id']}"
    assert client.get(f"{PATH}/{record['id']}").json() == record


def test_replaces(client: TestClient, body: dict[str, Any]) -> None:
    record = create(client, PATH, body)
    changed = {**body, "${field.name}": ${next}}
    replaced = client.put(f"{PATH}/{record['id']}", json=changed)
    assert replaced.status_code == 200
    assert replaced.json()["${field.name}"] == ${next}


def test_changes_one_field_and_keeps_the_others(client: TestClient, body: dict[str, Any]) -> None:
    before = create(client, PATH, body)
    changed = client.patch(f"{PATH}/{before['id']}", json={"${field.name}": ${next}})
    assert changed.status_code == 200
    assert changed.json() == {**before, "${field.name}": ${next}}


def test_deletes(client: TestClient, body: dict[str, Any]) -> None:
    record = create(client, PATH, body)
    assert client.delete(f"{PATH}/{record['id']}").status_code == 204
    assert client.get(f"{PATH}/{record['id']}").status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_answers_404_for_what_does_not_exist(
    client: TestClient, body: dict[str, Any], method: str
) -> None:
    sent = body if method in {"PUT", "PATCH"} else None
    answer = client.request(method, f"{PATH}/999", json=sent)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
`;
}

function pageTests(): string {
  return `def test_lists_page_by_page(client: TestClient, body: dict[str, Any]) -> None:
    for _ in range(3):
        create(client, PATH, body)
    first = client.get(PATH, params={"limit": 2})
    assert first.status_code == 200
    assert values_of(first, "id") == [1, 2]
    page = first.json()
    assert (page["total"], page["limit"], page["offset"]) == (3, 2, 0)
    second = client.get(PATH, params={"limit": 2, "offset": 2, "sort": "id"})
    assert values_of(second, "id") == [3]
    assert values_of(client.get(PATH, params={"sort": "-id"}), "id") == [3, 2, 1]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "offset=-1", "sort=?", "${UNKNOWN_FIELD}=1"]
)
def test_refuses_to_list_with_a_wrong_query(client: TestClient, query: str) -> None:
    answer = client.get(f"{PATH}?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["field"] == query.split("=")[0]
`;
}

function sortTest(entity: Entity): string {
  const field = sortableField(entity);
  if (field === null) return '';
  const [low, high] = rightValues(field).map(py);
  const { name } = field;
  return `${definition(`test_filters_and_sorts_by_${name}`)}
    create(client, PATH, {**body, "${name}": ${high}})
    create(client, PATH, {**body, "${name}": ${low}})
    found = client.get(PATH, params={"${name}": ${low}})
    assert values_of(found, "${name}") == [${low}]
    assert found.json()["total"] == 1
    in_order = client.get(PATH, params={"sort": "${name}"})
    assert values_of(in_order, "${name}") == [${low}, ${high}]
`;
}

function fieldTests(entity: Entity): string {
  const wrong = entity.fields.flatMap(field =>
    wrongValues(field).map(value => `        (${py(field.name)}, ${py(value)}),\n`),
  );
  const missing = entity.fields.filter(field => field.required).map(field => py(field.name));
  const needed =
    missing.length === 0
      ? ''
      : `
${bracketed('@pytest.mark.parametrize("field", [', missing, '])')}
def test_refuses_a_body_without_a_required_field(
    client: TestClient, body: dict[str, Any], field: str
) -> None:
    del body[field]
    answer = client.post(PATH, json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["details"] == [{"field": field, "message": "is required"}]

`;
  return `@pytest.mark.parametrize(
    ("field", "value"),
    [
${wrong.join('')}    ],
)
def test_refuses_a_wrong_value(
    client: TestClient, body: dict[str, Any], field: str, value: Any
) -> None:
    answer = client.post(PATH, json={**body, field: value})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "validation_failed"
    assert [detail["field"] for detail in error["details"]] == [field]

${needed}
def test_refuses_a_field_it_does_not_know(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post(PATH, json={**body, "${UNKNOWN_FIELD}": 1})
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["field"] == "${UNKNOWN_FIELD}"
`;
}

function referenceTest(field: Field): string {
  return `${definition(`test_refuses_${field.name}_that_does_not_exist`)}
    answer = client.post(PATH, json={**body, "${field.name}": 999})
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["field"] == "${field.name}"
`;
}

function holderTest(holder: Entity, field: Field): string {
  const path = collectionPath(holder);
  const who = withArticle(holder.name).replaceAll(' ', '_');
  return `${definition(`test_refuses_to_delete_what_${who}_refers_to`)}
    record = create(client, PATH, body)
    holder_body = {**${bodyCall(holder)}, "${field.name}": record["id"]}
    holder = create(client, "${path}", holder_body)
    refused = client.delete(f"{PATH}/{record['id']}")
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "still_referenced"
    client.delete(f"${path}/{holder['id']}")
    assert client.delete(f"{PATH}/{record['id']}").status_code == 204
`;
}
