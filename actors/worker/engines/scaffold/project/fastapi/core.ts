/**
 * The parts of a FastAPI service that are the same whatever it keeps: errors, bodies, the store, the routes.
 */

import type { ServiceSpec } from '../../request/spec.ts';

/** app/errors.py */
export function errorsFile(): string {
  return `"""The one shape every failure has on the wire: {"error": {"code", "message", "details"}}."""

from typing import TypedDict


class Detail(TypedDict):
    field: str
    message: str


class ApiError(Exception):
    def __init__(
        self, status: int, code: str, message: str, details: list[Detail] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details or []

    def body(self) -> dict:
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}


def not_found(message: str) -> ApiError:
    return ApiError(404, "not_found", message)


def invalid(details: list[Detail]) -> ApiError:
    return ApiError(422, "validation_failed", "Some values break a rule.", details)
`;
}

/** app/body.py */
export function bodyFile(): string {
  return `"""A request body as a JSON object."""

import json
import re
from typing import Any

from fastapi import Request

from app.errors import ApiError, invalid

BODY_BYTES_MAX = 1024 * 1024

JSON_TYPE = re.compile(r"application/(?:[\\w.-]+\\+)?json\\s*(?:;|$)", re.IGNORECASE)


async def json_object(request: Request) -> dict[str, Any]:
    """Read the body. Raises 415, 413, 400 or 422 when it is something else than a JSON object."""
    if not JSON_TYPE.match(request.headers.get("content-type", "")):
        raise ApiError(415, "unsupported_media_type", "Send the body as application/json.")
    value = parse(await read_bytes(request))
    if not isinstance(value, dict):
        raise invalid([{"field": "body", "message": "must be a JSON object"}])
    return value


async def read_bytes(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        # An oversized body is read to its end but not kept, so that the client hears the answer.
        if len(body) <= BODY_BYTES_MAX:
            body += chunk
    if len(body) > BODY_BYTES_MAX:
        raise ApiError(413, "body_too_large", f"A body may have {BODY_BYTES_MAX} bytes.")
    return bytes(body)


def parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "malformed_json", "The body is not valid JSON.") from error


def refuse_constant(name: str) -> None:
    """Python reads NaN and Infinity; JSON has neither."""
    raise ValueError(name)
`;
}

/** app/store.py */
export function storeFile(): string {
  return `"""Records by collection, in memory, saved to one JSON file.

Every change is on disk before it counts: the whole state goes to a temporary file, which then
takes the place of the old one. A crash leaves either the old state or the new one. Nothing here
awaits, so on the event loop a check followed by a change cannot be interleaved with another
request.
"""

import json
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Store:
    def __init__(self, file: Path | None = None) -> None:
        """Open the store. Without a file the records are kept in memory only."""
        self._file = file
        self._collections: dict[str, dict] = {}
        if file is not None and file.exists():
            self._collections = json.loads(file.read_text(encoding="utf-8"))

    def all(self, collection: str) -> list[Record]:
        return list(self._collection(collection)["records"])

    def get(self, collection: str, record_id: int) -> Record | None:
        records = self._collection(collection)["records"]
        return next((record for record in records if record["id"] == record_id), None)

    def insert(self, collection: str, fields: Record) -> Record:
        """Add a record under a new id and return it."""
        state = self._collection(collection)
        record = {"id": state["next_id"], **fields}
        self._commit(collection, state["next_id"] + 1, [*state["records"], record])
        return record

    def replace(self, collection: str, record_id: int, fields: Record) -> Record:
        state = self._collection(collection)
        record = {"id": record_id, **fields}
        records = [record if old["id"] == record_id else old for old in state["records"]]
        self._commit(collection, state["next_id"], records)
        return record

    def remove(self, collection: str, record_id: int) -> None:
        state = self._collection(collection)
        records = [record for record in state["records"] if record["id"] != record_id]
        self._commit(collection, state["next_id"], records)

    def _collection(self, name: str) -> dict:
        return self._collections.get(name, {"next_id": 1, "records": []})

    def _commit(self, name: str, next_id: int, records: list[Record]) -> None:
        changed = {**self._collections, name: {"next_id": next_id, "records": records}}
        if self._file is not None:
            save(self._file, changed)
        self._collections = changed


def save(file: Path, collections: dict[str, dict]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        json.dump(collections, handle)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(file)
`;
}

/** app/entity.py */
export function entityBaseFile(): string {
  return `"""What the service has to know about a kind of record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import Detail, invalid


class Fields(BaseModel):
    """The base of every kind of record: a field it does not know is an error."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Entity:
    label: str
    collection: str
    path: str
    fields: type[Fields]
    references: Mapping[str, str] = field(default_factory=dict)
    """The collection that each reference field points into."""


def validate(entity: Entity, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return every field of the entity, defaults filled in, or raise 422.

    null stands for "not given"; the id is the service's own and ignored.
    """
    given = {name: value for name, value in body.items() if name != "id" and value is not None}
    try:
        return entity.fields.model_validate(given).model_dump()
    except ValidationError as error:
        raise invalid([detail_of(entity, item) for item in error.errors()]) from error


def detail_of(entity: Entity, item: Mapping[str, Any]) -> Detail:
    messages = {
        "missing": "is required",
        "extra_forbidden": f"is not a field of {entity.label}",
    }
    message = messages.get(item["type"], item["msg"].removeprefix("Value error, "))
    return {"field": str(item["loc"][0]), "message": message}
`;
}

/** app/query.py */
export function queryFile(): string {
  return `"""The query of a list: ?limit= ?offset= ?sort= and ?<field>= for equality."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from app.entity import Entity
from app.errors import Detail, invalid
from app.store import Record

LIMIT_DEFAULT = 20
LIMIT_MAX = 100


@dataclass
class Query:
    limit: int = LIMIT_DEFAULT
    offset: int = 0
    sort: str = "id"
    filters: dict[str, Any] = field(default_factory=dict)


def read_query(entity: Entity, parameters: Iterable[tuple[str, str]]) -> Query:
    """Read the parameters. Raises 422 that names every one that is unknown or wrong."""
    query = Query()
    details: list[Detail] = []
    types = scalar_types(entity)
    for name, text in parameters:
        try:
            if name == "limit":
                query.limit = whole_number(text, 1, LIMIT_MAX)
            elif name == "offset":
                query.offset = whole_number(text, 0, 10**9)
            elif name == "sort":
                query.sort = sort_field(text, types)
            else:
                query.filters[name] = filter_value(name, text, types)
        except ValueError as error:
            details.append({"field": name, "message": str(error)})
    if details:
        raise invalid(details)
    return query


def scalar_types(entity: Entity) -> dict[str, Any]:
    hints = get_type_hints(entity.fields, include_extras=True)
    fields = entity.fields.model_fields.items()
    return {name: hints[name] for name, info in fields if info.default_factory is None}


def whole_number(text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not low <= int(text) <= high:
        raise ValueError(f"must be a whole number from {low} to {high}")
    return int(text)


def sort_field(text: str, types: dict[str, Any]) -> str:
    if text.removeprefix("-") not in {"id", *types}:
        raise ValueError("must name a field to sort by")
    return text


def filter_value(name: str, text: str, types: dict[str, Any]) -> Any:
    """Read a value as the text it is or, where the field holds no text, as JSON."""
    if name not in types:
        raise ValueError("is not a parameter of this list")
    adapter = TypeAdapter(types[name])
    for read in (str, json.loads):
        try:
            value = adapter.validate_python(read(text))
        except (ValidationError, ValueError):
            continue
        if value is not None:
            return value
    raise ValueError("is not a value of this field")


def select(records: list[Record], query: Query) -> list[Record]:
    """Return the records that pass, in order; records without the sorted field come last."""
    found = [
        record
        for record in records
        if all(record[name] == value for name, value in query.filters.items())
    ]
    name = query.sort.removeprefix("-")
    sortable = [record for record in found if record[name] is not None]
    sortable.sort(key=lambda record: record[name], reverse=query.sort.startswith("-"))
    return sortable + [record for record in found if record[name] is None]
`;
}

/** app/collection.py */
export function collectionFile(): string {
  return `"""The six things a client can do with one kind of record."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from app.body import json_object
from app.entity import Entity, validate
from app.errors import ApiError, invalid, not_found
from app.query import read_query, select
from app.store import Record, Store


class Collection:
    def __init__(self, entity: Entity, store: Store, entities: Sequence[Entity]) -> None:
        """Take all entities as well, to find who refers to whom."""
        self._entity = entity
        self._store = store
        self._entities = entities

    def list(self, parameters: Sequence[tuple[str, str]]) -> dict[str, Any]:
        query = read_query(self._entity, parameters)
        found = select(self._store.all(self._entity.collection), query)
        items = found[query.offset : query.offset + query.limit]
        return {"items": items, "total": len(found), "limit": query.limit, "offset": query.offset}

    def create(self, body: Mapping[str, Any]) -> Record:
        return self._store.insert(self._entity.collection, self._checked(body))

    def read(self, record_id: int) -> Record:
        record = self._store.get(self._entity.collection, record_id)
        if record is None:
            raise not_found(f"There is no {self._entity.label} with id {record_id}.")
        return record

    def replace(self, record_id: int, body: Mapping[str, Any]) -> Record:
        self.read(record_id)
        return self._store.replace(self._entity.collection, record_id, self._checked(body))

    def change(self, record_id: int, body: Mapping[str, Any]) -> Record:
        merged = {**self.read(record_id), **body}
        return self._store.replace(self._entity.collection, record_id, self._checked(merged))

    def remove(self, record_id: int) -> None:
        self.read(record_id)
        self._refuse_when_referenced(record_id)
        self._store.remove(self._entity.collection, record_id)

    def _checked(self, body: Mapping[str, Any]) -> Record:
        """Validate a body, including that every record it refers to exists."""
        fields = validate(self._entity, body)
        missing = [
            name
            for name, collection in self._entity.references.items()
            if fields[name] is not None and self._store.get(collection, fields[name]) is None
        ]
        if missing:
            raise invalid(
                [
                    {"field": name, "message": f"{fields[name]} is no id of such a record"}
                    for name in missing
                ]
            )
        return fields

    def _refuse_when_referenced(self, record_id: int) -> None:
        for other in self._entities:
            for name, collection in other.references.items():
                if collection != self._entity.collection:
                    continue
                for record in self._store.all(other.collection):
                    if record[name] == record_id:
                        message = f"The {other.label} with id {record['id']} refers to this one."
                        raise ApiError(409, "still_referenced", message)


def collection_router(entity: Entity, store: Store, entities: Sequence[Entity]) -> APIRouter:
    """Return the routes of one collection."""
    collection = Collection(entity, store, entities)
    router = APIRouter(prefix=entity.path, tags=[entity.label])
    body = Depends(json_object)

    @router.get("")
    async def list_records(request: Request) -> dict[str, Any]:
        return collection.list(request.query_params.multi_items())

    @router.post("", status_code=201)
    async def create_record(response: Response, fields: dict[str, Any] = body) -> Record:
        record = collection.create(fields)
        response.headers["location"] = f"{entity.path}/{record['id']}"
        return record

    @router.get("/{record_id:int}")
    async def read_record(record_id: int) -> Record:
        return collection.read(record_id)

    @router.put("/{record_id:int}")
    async def replace_record(record_id: int, fields: dict[str, Any] = body) -> Record:
        return collection.replace(record_id, fields)

    @router.patch("/{record_id:int}")
    async def change_record(record_id: int, fields: dict[str, Any] = body) -> Record:
        return collection.change(record_id, fields)

    @router.delete("/{record_id:int}", status_code=204)
    async def delete_record(record_id: int) -> None:
        collection.remove(record_id)

    return router
`;
}

/** app/main.py */
export function mainFile(spec: ServiceSpec): string {
  return `"""The HTTP face of the service: all collections, health, the contract, and errors in one shape."""

import json
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.collection import collection_router
from app.entities import ENTITIES
from app.errors import ApiError
from app.store import Store

CONTRACT = json.loads((Path(__file__).parent.parent / "openapi.json").read_text(encoding="utf-8"))


def create_app(store: Store) -> FastAPI:
    """Return the service over a store."""
    app = FastAPI(title=${JSON.stringify(spec.title)})
    # The committed contract is the one that is served, at /openapi.json and /docs.
    app.openapi = lambda: CONTRACT  # type: ignore[method-assign]
    app.add_exception_handler(ApiError, answer_api_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(Exception, answer_unexpected)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    for entity in ENTITIES:
        app.include_router(collection_router(entity, store, ENTITIES))
    return app


async def answer_api_error(_: Request, error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), status_code=error.status)


async def answer_http_error(request: Request, error: HTTPException) -> JSONResponse:
    """Give the errors of the framework itself, such as 404 and 405, the same shape."""
    codes = {404: "not_found", 405: "method_not_allowed"}
    messages = {404: f"There is nothing at {request.url.path}."}
    answer = ApiError(
        error.status_code,
        codes.get(error.status_code, "http_error"),
        messages.get(error.status_code, str(error.detail)),
    )
    return JSONResponse(answer.body(), status_code=answer.status, headers=error.headers)


async def answer_unexpected(_: Request, __: Exception) -> JSONResponse:
    answer = ApiError(500, "internal", "The service failed; see its log.")
    return JSONResponse(answer.body(), status_code=answer.status)
`;
}

/** app/__main__.py */
export function runFile(): string {
  return `"""Start the service: python -m app. PORT, HOST and DATA_FILE come from the environment."""

import os
from pathlib import Path

import uvicorn

from app.main import create_app
from app.store import Store

DRAIN_S = 5


def main() -> None:
    store = Store(Path(os.environ.get("DATA_FILE", "data/store.json")))
    uvicorn.run(
        create_app(store),
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", "8000")),
        timeout_graceful_shutdown=DRAIN_S,
    )


if __name__ == "__main__":
    main()
`;
}
