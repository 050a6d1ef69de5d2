/**
 * The store of a FastAPI service, the same whatever it keeps.
 */

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
