"""A plugin's parameters: type hints become a JSON Schema, and what a caller gives is judged by it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

JSON_TYPES: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
MAX_TEXT = 1024
#: Numbers beyond are not the same in all that reads JSON.
_LARGEST: Mapping[str, float] = {"boolean": 1, "integer": 1 << 53, "number": sys.float_info.max}


@dataclass(frozen=True, slots=True)
class Param:
    """How a parameter looks in a form and what it may be: `Annotated[int, Param(180, ge=0, le=3000, unit="HU")]`.

    Attributes
    ----------
    default : used when the caller gives none; a parameter without one is required.
    ge, le : inclusive limits of a number.
    unit : UCUM unit shown beside the value.
    widget : a hint for the form, such as "slider".
    help : one sentence; title : the label, by default made from the parameter's name.
    """

    default: Any = inspect.Parameter.empty
    ge: float | None = None
    le: float | None = None
    unit: str = ""
    widget: str = ""
    help: str = ""
    title: str = ""


def schema(function: Callable[..., Any]) -> dict[str, Any]:
    """Make the JSON Schema of a function's parameters after the first two."""
    signature = list(inspect.signature(function).parameters.values())
    hints = get_type_hints(function, include_extras=True)
    if len(signature) < 2:
        raise TypeError(f"{function.__name__} must take the volume and the context as its first two parameters.")
    properties = {item.name: _property(item, hints.get(item.name)) for item in signature[2:]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": [key for key, value in properties.items() if "default" not in value],
        "additionalProperties": False,
    }


def _property(parameter: inspect.Parameter, hint: Any) -> dict[str, Any]:
    """Make the JSON Schema of one parameter from its type hint, its Param and its Python default."""
    kind, param = hint, Param()
    if get_origin(hint) is Annotated:
        kind = get_args(hint)[0]
        param = next((extra for extra in get_args(hint)[1:] if isinstance(extra, Param)), param)
    if parameter.default is not inspect.Parameter.empty:
        param = replace(param, default=parameter.default)
    words = parameter.name.replace("_", " ")
    made: dict[str, Any] = {**_type(parameter.name, kind), "title": param.title or words[:1].upper() + words[1:]}
    optional = {
        "description": param.help,
        "minimum": param.ge,
        "maximum": param.le,
        "x-unit": param.unit,
        "x-widget": param.widget,
    }
    made |= {key: value for key, value in optional.items() if value not in ("", None)}
    if param.default is not inspect.Parameter.empty:
        made["default"] = param.default
    return made


def _type(name: str, kind: Any) -> dict[str, Any]:
    if get_origin(kind) is Literal:
        choices = list(get_args(kind))
        return {"type": JSON_TYPES[type(choices[0])], "enum": choices}
    if kind not in JSON_TYPES:
        raise TypeError(f"Parameter {name} must be int, float, bool, str or Literal[…], not {kind!r}.")
    return {"type": JSON_TYPES[kind]} | ({"maxLength": MAX_TEXT} if kind is str else {})


def faults(schema: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
    """Find what is wrong with parameters, one sentence each."""
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

    properties = schema["properties"]
    known = ", ".join(properties) or "no parameters"
    found = [f"There is no parameter {key}; there are: {known}." for key in parameters if key not in properties]
    found += [f"Parameter {key} is required." for key in schema["required"] if key not in parameters]
    for key in parameters.keys() & properties.keys():
        value = parameters[key]
        largest = _LARGEST.get(properties[key]["type"], 0)
        too_large = isinstance(value, int | float) and not abs(value) <= largest  # NaN is neither
        if too_large or not Draft202012Validator(properties[key]).is_valid(value):
            # A number may be said again; a text, which may be anything, goes no further: faults are logged and kept.
            said = f"; it is {value!r:.80}" if isinstance(value, bool | int | float | None) else ""
            found.append(f"{key} must be {_allowed(properties[key])}{said}.")
    return sorted(found)


def _allowed(item: Mapping[str, Any]) -> str:
    """Say what a parameter may be."""
    if "enum" in item:
        return "one of " + ", ".join(map(str, item["enum"]))
    noun = {"boolean": "true or false", "integer": "a whole number", "number": "a number"}
    words = noun.get(item["type"], f"text of at most {MAX_TEXT} characters")
    if "minimum" in item and "maximum" in item:
        words += f" from {item['minimum']} to {item['maximum']}"
    elif "minimum" in item:
        words += f" of at least {item['minimum']}"
    elif "maximum" in item:
        words += f" of at most {item['maximum']}"
    return f"{words} {item['x-unit']}" if "x-unit" in item else words


def plain(value: Any, item: Mapping[str, Any]) -> Any:
    """Give a JSON number the Python type that its hint promises: 180.0 is a valid integer, 2 a valid number."""
    if item["type"] == "integer":
        return int(cast(float, value))
    return float(value) if item["type"] == "number" else value
