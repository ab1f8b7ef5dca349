"""A digest as JSON and back, and the JSON Schema. The fields are defined in f2b_digest.model.digest."""

import json
from dataclasses import asdict
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from f2b_digest.model.digest import Campaign, Digest

DOCUMENT_VERSION = 1
"""Version of the JSON form; new keys do not change it."""


def document(digest: Digest) -> dict[str, Any]:
    """Return the digest as nested dicts and lists: what templates and JSON readers get."""
    return {"version": DOCUMENT_VERSION, **asdict(digest)}


def to_json(digest: Digest, indent: int | None = None) -> str:
    """Return the digest as a JSON text, times in ISO 8601."""
    return json.dumps(document(digest), default=datetime.isoformat, indent=indent)


@cache
def _adapter() -> TypeAdapter[Digest]:
    return TypeAdapter(Digest)  # creating it takes as long as rendering a digest


def from_json(text: str) -> Digest:
    """Return the digest that `to_json` wrote; its times keep their offsets and lose their zone's name."""
    return _adapter().validate_json(text)


def campaigns_of(text: str) -> tuple[Campaign, ...]:
    """Return the campaigns of the digest that `to_json` wrote, without making the rest of it."""
    found: tuple[Campaign, ...] = TypeAdapter(tuple[Campaign, ...]).validate_python(json.loads(text)["campaigns"])
    return found


def schema() -> dict[str, Any]:
    """Return the JSON Schema of `to_json`'s output."""
    made = _adapter().json_schema(mode="serialization")
    made["properties"] = {"version": {"const": DOCUMENT_VERSION}, **made["properties"]}
    for each in (made, *made["$defs"].values()):  # defaults are written too
        each["required"] = list(each["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
