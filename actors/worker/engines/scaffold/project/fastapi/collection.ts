/**
 * What a client of a FastAPI service can do with records: operations, validation, lists.
 */

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
