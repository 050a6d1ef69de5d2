/**
 * The tests of a FastAPI service that are not about one kind of record, and the client fixture.
 */

import type { ServiceSpec } from '../../request/spec.ts';
import { collectionPath } from '../openapi.ts';
import { py } from './source.ts';

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
    assert error_code(client.get("/no--path")) == (404, "not_found")
    assert error_code(client.get(f"{PATH}/one")) == (404, "not_found")


def test_answers_405_with_the_methods_that_are_allowed(client: TestClient) -> None:
    for path, allowed in ((PATH, "GET, POST"), (f"{PATH}/1", "GET, PUT, PATCH, DELETE")):
        answer = client.request("TRACE", path)
        assert error_code(answer) == (405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


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
