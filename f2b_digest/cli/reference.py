"""The configuration reference, read from the models: name, type, default, meaning, example of every key.

Used by `f2b-digest config` and the documentation. Nothing about a particular key here.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, NamedTuple

from pydantic import BaseModel

from f2b_digest.channels import KINDS
from f2b_digest.channels.keys import WithSecrets, keys_of
from f2b_digest.config import Report, Top

WIDTH = 100
HEAD = """\
# Configuration of f2b-digest: every key with its default.
#
# "# text" is an explanation. "#key = value" is a setting: remove its # to change it. Where there is
# no default, the value shown is an example. Check the result: f2b-digest config --check FILE
"""


class Key(NamedTuple):
    """One key of a table."""

    name: str
    type: str
    required: bool
    default: str
    """As TOML; empty where there is none that TOML can express."""
    meaning: str
    example: str
    """As TOML; empty where the default serves as one."""

    @property
    def value(self) -> str:
        """Return the default, or else an example, as TOML."""
        return self.default if self.default not in ("", "[]", "{}") else self.example


@dataclass(frozen=True)
class Table:
    """One table of the file: the top-level keys (title ""), a report, or one kind of channel."""

    title: str
    """Its header without brackets, such as "reports.daily"."""
    meaning: str
    keys: tuple[Key, ...]


def tables() -> Iterator[Table]:
    """Yield the top of the file, a report, and each kind of channel."""
    yield Table("", "", tuple(_keys(Top)))
    yield Table("reports.daily", _summary(Report), tuple(_keys(Report)))
    for kind, model in KINDS.items():
        yield Table(f"channels.{kind}", _summary(model), tuple(_keys(model)))


def commented_configuration() -> str:
    """Return a valid configuration with every key commented out, with its meaning."""
    return HEAD + "".join(f"\n{_commented(table)}" for table in tables())


def _commented(table: Table) -> str:
    lines = [f"# {line}" for line in wrap(table.meaning, WIDTH)]
    if table.title:
        lines.append(f"[{table.title}]" if table.title == "reports.daily" else f"#[{table.title}]")
    for key in table.keys:
        lines += [f"# {line}" for line in wrap(f"{key.meaning}{_note(key)}", WIDTH)]
        lines.append(f"#{key.name} = {key.value}")
    return "\n".join(lines) + "\n"


def _note(key: Key) -> str:
    """Return the note for a key whose default is not shown by the setting's line."""
    choices = f" One of: {key.type}." if key.type.startswith('"') and "," in key.type else ""
    if key.required:
        return f"{choices} Required."
    unset = key.value != key.default and "Default:" not in key.meaning
    return f"{choices} Not set by default." if unset else choices


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n")[0]


def _keys(model: type[BaseModel]) -> Iterator[Key]:
    schema = model.model_json_schema()
    secrets = model.secrets if issubclass(model, WithSecrets) else ()
    for name, field in schema["properties"].items():
        description = _description(model, name)
        meaning, _, example = " ".join(description.split()).partition(" Example: ")
        if "const" in field:
            example = json.dumps(field["const"])
        default = "" if field.get("default") is None else json.dumps(field["default"], ensure_ascii=False)
        required = name in schema.get("required", ()) and "Default:" not in meaning
        kind_of_value = "path" if name.endswith("_file") else _type(field)
        yield Key(name, kind_of_value, required, default, meaning, example.removesuffix("."))
        if name in secrets:
            yield from _further(name)


def _description(model: type[BaseModel], key: str) -> str:
    """Return a key's docstring; if a class only overrides the default, that of its base class."""
    for parent in model.__mro__:
        for name, field in getattr(parent, "model_fields", {}).items():
            if key in (name, field.alias) and field.description:
                return str(field.description)
    return ""


def _further(secret: str) -> Iterator[Key]:
    """Yield the alternative keys of a secret."""
    _, file, variable = keys_of(secret)
    meaning = f"File that holds {secret} in its first line, relative to this file."
    yield Key(file, "path", required=False, default="", meaning=meaning, example=f'"{secret}.txt"')
    meaning = f"Environment variable that holds {secret}."
    yield Key(variable, "text", required=False, default="", meaning=meaning, example=f'"F2B_DIGEST_{secret.upper()}"')


def _type(field: dict[str, Any]) -> str:
    """Return a key's type in words, from its JSON Schema."""
    choices = [choice for choice in field.get("anyOf", [field]) if choice.get("type") != "null"]
    field = choices[0]
    if "const" in field or "enum" in field:
        return ", ".join(json.dumps(value) for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return "list of paths" if _type(field["items"]) == "path" else "list of text"
    if field.get("type") in ("integer", "number"):
        return f"number{_bounds(field)}"
    return {"boolean": "true or false", "object": "table of text"}.get(str(field.get("type")), _text_type(field))


def _text_type(field: dict[str, Any]) -> str:
    return {"path": "path", "password": "text, secret"}.get(field.get("format", ""), "text")


def _bounds(field: dict[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}
    return "".join(f", {word} {field[limit]:g}" for limit, word in words.items() if limit in field)
