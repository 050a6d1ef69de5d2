/**
 * The tests of a FastAPI service: the client fixture, right bodies for every entity, one test file per entity, and
 * one for what all share.
 */

import type { Entity, Field, ServiceSpec } from '../../request/spec.ts';
import { spaced, withArticle } from '../../request/words.ts';
import { collectionPath } from '../openapi.ts';
import { rightValues, sortableField, wrongValues } from '../samples.ts';
import { bracketed, fromImport, py } from './source.ts';

/** tests/conftest.py */
export function conftestFile(): string {
  return `"""A service with an empty store for every test."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.store import Store


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Store())) as running:
        yield running
`;
}

const bodyFunction = (name: string): string => `${name}_body`;

/** tests/bodies.py */
export function bodiesFile(spec: ServiceSpec): string {
  const functions = spec.entities.map(entity => bodySource(spec, entity)).join('\n\n');
  return `"""A right body for every kind of record. Records a body must refer to are created on the way."""

from typing import Any

from fastapi.testclient import TestClient


def create(client: TestClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


${functions}`;
}

function bodySource(spec: ServiceSpec, entity: Entity): string {
  const required = requiredReferences(entity);
  const own = entity.fields
    .filter(field => field.type !== 'reference')
    .map(field => `${py(field.name)}: ${py(rightValues(field)[0])}`);
  const references = required.map(field => {
    const target = spec.entities.find(other => other.name === field.target);
    return target === undefined ? '' : `${py(field.name)}: ${createCall(target)}["id"]`;
  });
  const lines = [...own, ...references].map(entry => `        ${entry},\n`).join('');
  const parameters = required.length > 0 ? 'client: TestClient' : '';
  return `def ${bodyFunction(entity.name)}(${parameters}) -> dict[str, Any]:
    return {
${lines}    }
`;
}

function requiredReferences(entity: Entity): Field[] {
  return entity.fields.filter(field => field.type === 'reference' && field.required);
}

function bodyCall(entity: Entity): string {
  return `${bodyFunction(entity.name)}(${requiredReferences(entity).length > 0 ? 'client' : ''})`;
}

function createCall(entity: Entity): string {
  return `create(client, "${collectionPath(entity)}", ${bodyCall(entity)})`;
}

/** tests/test_<name>.py */
export function entityTestFile(spec: ServiceSpec, entity: Entity): string {
  const path = collectionPath(entity);
  const holders = holdersOf(spec, entity).map(([holder]) => bodyFunction(holder.name));
  const cases = [
    crudTests(entity),
    pageTests(entity),
    fieldTests(entity),
    ...entity.fields
      .filter(field => field.type === 'reference')
      .map(field => referenceTest(entity, field)),
    ...holdersOf(spec, entity).map(([holder, field]) => holderTest(entity, holder, field)),
  ].filter(part => part !== '');
  return `"""${capital(spaced(entity.plural))}: everything a client can do with them, and every way to get it wrong."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

${fromImport('tests.bodies', ['create', bodyFunction(entity.name), ...holders])}

PATH = ${py(path)}


${cases.join('\n\n')}`;
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function changeable(entity: Entity): readonly [string, string] {
  const field = entity.fields.find(other => other.type !== 'reference');
  if (field === undefined) return ['id', '1'];
  return [field.name, py(rightValues(field)[1])];
}

function crudTests(entity: Entity): string {
  const [field, next] = changeable(entity);
  const body = bodyCall(entity);
  return `def test_creates_and_gives_back(client: TestClient) -> None:
    body = ${body}
    created = client.post(PATH, json=body)
    assert created.status_code == 201
    record = created.json()
    assert created.headers["location"] == f"{PATH}/{record['id']}"
    assert client.get(f"{PATH}/{record['id']}").json() == record
    assert {name: record[name] for name in body} == body


def test_replaces(client: TestClient) -> None:
    record = create(client, PATH, ${body})
    replaced = client.put(f"{PATH}/{record['id']}", json={**${body}, "${field}": ${next}})
    assert replaced.status_code == 200
    assert replaced.json()["${field}"] == ${next}


def test_changes_one_field_and_keeps_the_others(client: TestClient) -> None:
    before = create(client, PATH, ${body})
    changed = client.patch(f"{PATH}/{before['id']}", json={"${field}": ${next}})
    assert changed.status_code == 200
    assert changed.json() == {**before, "${field}": ${next}}


def test_deletes(client: TestClient) -> None:
    record = create(client, PATH, ${body})
    assert client.delete(f"{PATH}/{record['id']}").status_code == 204
    assert client.get(f"{PATH}/{record['id']}").status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_answers_404_for_what_does_not_exist(client: TestClient, method: str) -> None:
    body = ${body} if method in {"PUT", "PATCH"} else None
    answer = client.request(method, f"{PATH}/999", json=body)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
`;
}

function pageTests(entity: Entity): string {
  const field = sortableField(entity);
  const body = bodyCall(entity);
  const pages = `def ids(answer: Any) -> list[int]:
    return [item["id"] for item in answer.json()["items"]]


def test_lists_page_by_page(client: TestClient) -> None:
    for _ in range(3):
        create(client, PATH, ${body})
    first = client.get(PATH, params={"limit": 2})
    assert first.status_code == 200
    assert ids(first) == [1, 2]
    assert {name: first.json()[name] for name in ("total", "limit", "offset")} == {
        "total": 3,
        "limit": 2,
        "offset": 0,
    }
    assert ids(client.get(PATH, params={"limit": 2, "offset": 2, "sort": "id"})) == [3]
    assert ids(client.get(PATH, params={"sort": "-id"})) == [3, 2, 1]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "offset=-1", "sort=nothing", "colour_of=x"]
)
def test_refuses_to_list_with_a_wrong_query(client: TestClient, query: str) -> None:
    answer = client.get(f"{PATH}?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["field"] == query.split("=")[0]
`;
  if (field === null) return pages;
  const [low, high] = rightValues(field).map(py);
  return `${pages}

def test_filters_and_sorts_by_${field.name}(client: TestClient) -> None:
    create(client, PATH, {**${body}, "${field.name}": ${high}})
    create(client, PATH, {**${body}, "${field.name}": ${low}})
    found = client.get(PATH, params={"${field.name}": ${low}}).json()
    assert [item["${field.name}"] for item in found["items"]] == [${low}]
    assert found["total"] == 1
    in_order = client.get(PATH, params={"sort": "${field.name}"}).json()
    assert [item["${field.name}"] for item in in_order["items"]] == [${low}, ${high}]
`;
}

function fieldTests(entity: Entity): string {
  const body = bodyCall(entity);
  const wrong = entity.fields.flatMap(field =>
    wrongValues(field).map(value => `        (${py(field.name)}, ${py(value)}),\n`),
  );
  const missing = entity.fields.filter(field => field.required).map(field => py(field.name));
  const needed =
    missing.length === 0
      ? ''
      : `
${bracketed('@pytest.mark.parametrize("field", [', missing, '])')}
def test_refuses_a_body_without_a_required_field(client: TestClient, field: str) -> None:
    body = ${body}
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
def test_refuses_a_wrong_value(client: TestClient, field: str, value: Any) -> None:
    answer = client.post(PATH, json={**${body}, field: value})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "validation_failed"
    assert [detail["field"] for detail in error["details"]] == [field]

${needed}
def test_refuses_a_field_it_does_not_know(client: TestClient) -> None:
    answer = client.post(PATH, json={**${body}, "colour_of_sky": "blue"})
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["field"] == "colour_of_sky"
`;
}

function referenceTest(entity: Entity, field: Field): string {
  return `def test_refuses_a_${field.name}_that_does_not_exist(client: TestClient) -> None:
    answer = client.post(PATH, json={**${bodyCall(entity)}, "${field.name}": 999})
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["field"] == "${field.name}"
`;
}

function holdersOf(spec: ServiceSpec, entity: Entity): [Entity, Field][] {
  return spec.entities.flatMap(holder =>
    holder.fields
      .filter(field => field.type === 'reference' && field.target === entity.name)
      .map(field => [holder, field] as [Entity, Field]),
  );
}

function holderTest(entity: Entity, holder: Entity, field: Field): string {
  const path = collectionPath(holder);
  return `def test_refuses_to_delete_what_${withArticle(holder.name).replaceAll(' ', '_')}_refers_to(client: TestClient) -> None:
    record = create(client, PATH, ${bodyCall(entity)})
    holder = create(client, "${path}", {**${bodyCall(holder)}, "${field.name}": record["id"]})
    refused = client.delete(f"{PATH}/{record['id']}")
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "still_referenced"
    client.delete(f"${path}/{holder['id']}")
    assert client.delete(f"{PATH}/{record['id']}").status_code == 204
`;
}

/** tests/test_service.py */
export function serviceTestFile(spec: ServiceSpec): string {
  const first = spec.entities[0];
  return `"""What holds for every path: health, the contract, and the errors of HTTP itself."""

import json
from pathlib import Path

from fastapi.testclient import TestClient

CONTRACT = json.loads((Path(__file__).parent.parent / "openapi.json").read_text(encoding="utf-8"))
PATH = ${py(first === undefined ? '/' : collectionPath(first))}
JSON_TYPE = {"content-type": "application/json"}


def error_code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_tells_that_it_is_up(client: TestClient) -> None:
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_serves_its_contract(client: TestClient) -> None:
    assert client.get("/openapi.json").json() == CONTRACT


def test_answers_every_collection_of_the_contract(client: TestClient) -> None:
    paths = [path for path, operations in CONTRACT["paths"].items() if "post" in operations]
    assert paths
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert (answer.json()["items"], answer.json()["total"]) == ([], 0)


def test_answers_404_where_there_is_nothing(client: TestClient) -> None:
    assert error_code(client.get("/no-such-path")) == (404, "not_found")
    assert error_code(client.get(f"{PATH}/one")) == (404, "not_found")


def test_answers_405_to_a_wrong_method(client: TestClient) -> None:
    assert error_code(client.delete(PATH)) == (405, "method_not_allowed")


def test_answers_400_to_a_body_that_is_not_json(client: TestClient) -> None:
    for body in ('{"half":', '{"number": NaN}', "[" * 100_000):
        answer = client.post(PATH, content=body, headers=JSON_TYPE)
        assert error_code(answer) == (400, "malformed_json")


def test_answers_422_to_a_body_that_is_no_object(client: TestClient) -> None:
    assert error_code(client.post(PATH, json=[1, 2])) == (422, "validation_failed")


def test_answers_415_to_a_body_that_is_not_declared_as_json(client: TestClient) -> None:
    answer = client.post(PATH, content="{}", headers={"content-type": "text/plain"})
    assert error_code(answer) == (415, "unsupported_media_type")


def test_answers_413_to_a_body_that_is_too_large(client: TestClient) -> None:
    answer = client.post(PATH, json={"text": "x" * 1024 * 1024})
    assert error_code(answer) == (413, "body_too_large")
`;
}

/** tests/test_store.py */
export function storeTestFile(): string {
  return `"""The store: what is written is there again after a restart."""

import json
from pathlib import Path

import pytest

from app.store import Store


def test_records_survive_a_restart_and_ids_are_never_given_twice(tmp_path: Path) -> None:
    file = tmp_path / "nested" / "store.json"
    before = Store(file)
    kept = before.insert("things", {"name": "kept"})
    gone = before.insert("things", {"name": "gone"})
    before.remove("things", gone["id"])
    before.replace("things", kept["id"], {"name": "changed"})

    after = Store(file)
    assert after.all("things") == [{"id": kept["id"], "name": "changed"}]
    assert after.insert("things", {"name": "new"})["id"] == gone["id"] + 1
    assert [path.name for path in file.parent.iterdir()] == ["store.json"]


def test_a_change_that_cannot_be_saved_does_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "data" / "store.json")
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(OSError):
        store.insert("things", {"name": "lost"})
    assert store.all("things") == []


def test_a_file_that_is_not_json_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "store.json"
    file.write_text('{"half":')
    with pytest.raises(json.JSONDecodeError):
        Store(file)
`;
}
