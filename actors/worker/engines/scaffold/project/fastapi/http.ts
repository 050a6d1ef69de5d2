/**
 * The HTTP side of a FastAPI service, the same whatever it keeps: errors, bodies, start.
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

/** app/main.py */
export function mainFile(spec: ServiceSpec): string {
  return `"""The HTTP face of the service: collections, health, the contract, errors in one shape."""

import json
import re
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.collection import collection_router
from app.entities import ENTITIES
from app.errors import ApiError, not_found
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
    path = request.url.path
    headers = error.headers
    answer = ApiError(error.status_code, "http_error", str(error.detail))
    if error.status_code == 404:
        answer = not_found(f"There is nothing at {path}.")
    elif error.status_code == 405:
        headers = {"allow": allowed_methods(path)} if allowed_methods(path) else headers
        answer = ApiError(405, "method_not_allowed", f"This path knows no {request.method}.")
    return JSONResponse(answer.body(), status_code=answer.status, headers=headers)


def allowed_methods(path: str) -> str:
    """Look the path up in the contract; the framework names the methods of one route only."""
    template = re.sub(r"/[0-9]+$", "/{id}", path.rstrip("/"))
    operations = CONTRACT["paths"].get(template, {})
    return ", ".join(name.upper() for name in operations if name != "parameters")


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
