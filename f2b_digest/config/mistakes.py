"""Validates a table of the configuration and reports all mistakes, one line each. No particular table is known here."""

import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError, create_model, model_validator

from f2b_digest.channels.keys import keys_of
from f2b_digest.errors import hint

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)
PLAIN = {
    "tuple_type": 'must be a list like ["…", "…"]',
    "string_type": 'must be a string like "…"',
    "path_type": 'must be a path like "…"',
    "dict_type": "must be a table",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "missing": "is missing",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "must be one of {expected}",
}
"""Our texts for pydantic's error types; other types keep pydantic's text."""


class _UnknownError(Exception):
    """A rule used the value of an invalid key."""


class _Wrong:
    """Placeholder for an invalid value: any use other than `is` raises _UnknownError."""

    def _refuse(self, *_: object) -> NoReturn:
        raise _UnknownError

    __bool__ = __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = _refuse
    __hash__ = __str__ = __iter__ = __len__ = __contains__ = __getattr__ = __fspath__ = _refuse


def check(model: type[Model], values: Mapping[str, Any], context: Any) -> tuple[Model | None, list[tuple[str, str]]]:
    """Return a table as an object, or None and its mistakes as (key, text); the key is "" for rules between keys.

    The texts never contain values, which may be secret.
    """
    try:
        return model.model_validate(values, context=context), []
    except ValidationError as error:
        found = [detail for detail in error.errors(include_url=False) if detail["loc"]]
    mistakes = [(".".join(map(str, detail["loc"])), _text(model, detail)) for detail in found]
    bad = {str(detail["loc"][0]) for detail in found}
    return None, mistakes + [("", line) for line in _broken_rules(model, values, bad, context)]


def _broken_rules(model: type[Model], values: Mapping[str, Any], bad: Collection[str], context: Any) -> Iterator[str]:
    """Yield the mistakes between keys of a table.

    pydantic skips a model's own validators while any key is invalid, and stops at the first that fails. Here all of
    them run, on a copy of the model without validators in which invalid keys hold `_Wrong`.
    """
    validators = model.__pydantic_decorators__.model_validators
    rules = {name: rule for name, rule in validators.items() if rule.info.mode == "after"}
    names = {field.alias or name: name for name, field in model.model_fields.items()}
    wrong: Any = {names[key]: (Any, ...) for key in bad if key in names}
    quiet: Any = {name: model_validator(mode="after")(_accept) for name in rules}
    stand_in = create_model(model.__name__, __base__=model, __validators__=quiet, **wrong)
    rest = {key: value for key, value in values.items() if key not in bad}
    table = stand_in.model_validate(rest | {name: _Wrong() for name in wrong}, context=context)
    for rule in rules.values():
        try:
            rule.func(table)
        except _UnknownError:
            log.debug("%s needs a key that is invalid", rule.func)
        except ValueError as refused:
            yield str(refused)


def _accept(table: Any) -> Any:
    return table


def _text(model: type[BaseModel], detail: Any) -> str:
    """Return our text for one of pydantic's errors."""
    if detail["type"] == "extra_forbidden":
        keys = [field.alias or name for name, field in model.model_fields.items()]
        keys += [key for name in getattr(model, "secrets", ()) for key in keys_of(name)]
        return f"unknown key ({hint('known', dict.fromkeys(keys), detail['loc'][-1])})"
    if detail["type"] == "string_pattern_mismatch":
        return f"must be {model.model_fields[detail['loc'][0]].title}"
    if detail["type"] in PLAIN:
        values = {name: str(value).replace(" or ", ", ") for name, value in detail.get("ctx", {}).items()}
        return PLAIN[detail["type"]].format(**values)
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"
