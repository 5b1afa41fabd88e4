"""A class of inputs from the JSON schema that RunComfy's catalogue publishes for a model.

The schema itself is the check: `jsonschema` applies it, property by property, so that what is accepted here is what
the schema accepts. The differences are deliberate, and are all named in `DIFFERENCES`.

What schemas of the catalogue hold beyond the standard, or get wrong, is put right first (`standard`): the type
`float`, draft 4's bounds, patterns that do not compile, references that lead nowhere.
"""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import referencing
import referencing.exceptions
from jsonschema import Draft202012Validator, ValidationError, validators
from pydantic import Field, PlainValidator, PydanticUserError, WithJsonSchema, create_model, model_validator
from pydantic_core import PydanticCustomError, SchemaError

from runcomfy.errors import InvalidInput
from runcomfy.models.inputs import ModelInputs, integer
from runcomfy.models.media_fields import MediaField, file_in, media_fields, types_of
from runcomfy.models.sentences import sentence
from runcomfy.texts import exact_below, normal_text, unusable

__all__ = [
    "DIFFERENCES",
    "class_of_schema",
    "effective_defaults",
    "is_text",
    "of_any_address",
    "rules_together",
    "standard",
    "subschemas_changed",
]

DIFFERENCES: Final = (
    "`None` leaves a property out",
    "a name that the schema does not list is refused, even where the schema allows more",
    "a required text that says nothing is refused",
    "texts are normalised, and one that is not Unicode is refused",
    "the default of a text or a medium is a sample, and is never sent: a required one has to be given",
    "a default that the schema itself refuses is not sent",
    "a required property with a default need not be given",
    "a number that is not finite, and a whole one that may have been rounded, are refused",
    "multiples are compared as decimal numbers",
    "what looks like a file, in a property that is not known to hold one, is refused",
)
"""Where a class accepts something else than a validator of JSON Schema would, in words."""

_TYPES: Final = {
    "float": "number", "double": "number", "decimal": "number", "int": "integer", "long": "integer", "str": "string",
    "text": "string", "bool": "boolean", "list": "array", "dict": "object", "map": "object",
}  # fmt: skip
_STANDARD: Final = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})
_SCHEMAS: Final = frozenset({"items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_OF_PROPERTIES: Final = frozenset({"type", "properties", "required", "additionalProperties", "title", "description"})
_TEXT_WORDS: Final = frozenset({
    "prompt", "prompts", "text", "texts", "tags", "lyrics", "caption", "captions", "description", "instruction",
    "instructions", "script", "message", "transcript", "query", "story", "words",
})  # fmt: skip
_LONG_TEXT: Final = 200  # characters; no setting is longer
_CHOICES: Final = 200  # more of them are no list that a person reads
_DEEPEST: Final = 64


def class_of_schema(
    model_id: str,
    schema: Mapping[str, Any],
    *,
    media: Mapping[str, str] | None = None,
    makes: str = "",
    first_defaults: Mapping[str, Any] = MappingProxyType({}),
    refreshed_at: datetime | None = None,
) -> type[ModelInputs]:
    """Return the class of a model's inputs.

    Args:
        model_id: As on RunComfy's model page.
        schema: The catalogue's `input_schema`.
        media: What a field holds, where the schema does not say it or says it wrongly: a field's name, and `image`,
            `video`, `audio` or `none`.
        makes: `video`, `image` or `audio`, if the catalogue says it: another kind of output gets a warning.
        first_defaults: What was sent first where a property was left out, where the schema has changed: a value that
            is that counts as not given, now and later, so that a key always means the same inputs.
        refreshed_at: When the schema changed: what was left out in a generation that is older had its earlier default.

    Raises:
        InvalidInput: It is no schema of an object, or `media` names no field.
    """
    whole = standard(schema)
    properties: dict[str, Any] | None = whole.get("properties")
    if not isinstance(properties, dict) or not all(isinstance(each, dict) for each in properties.values()):
        raise InvalidInput(f"The schema of {model_id} describes no inputs: it has no `properties`.")
    found = media_fields(properties, media or {})
    required = {name for name in whole.get("required", ()) if isinstance(name, str)}
    definitions: dict[str, Any] = {name: whole[name] for name in ("$defs", "definitions") if name in whole}
    fields: dict[str, Any] = {}
    checks: dict[str, Callable[[Any], Any]] = {}
    for name, own in properties.items():
        field, rules, needed = _name_in_python(name, fields), {**own, **definitions}, name in required
        text = name not in found and is_text(name, own)
        checks[name] = _check(rules, text=text, needed=needed, medium=found.get(name))
        fields[field] = _field(
            name, rules, checks[name], needed=needed, is_sample=text or name in found, is_medium=name in found
        )
    rest = rules_together(whole)
    defaults = {
        name: json.dumps(None if field[1].is_required() else _plain(field[1].default))
        for name, field in zip(properties, fields.values(), strict=True)
    }
    first = defaults | {name: json.dumps(_plain(value)) for name, value in first_defaults.items()}
    names = dict(zip(fields, properties, strict=True))
    its_id, its_output, its_properties, names_of_all = model_id, makes, properties, list(properties)
    its_texts = frozenset(name for name, own in properties.items() if is_text(name, own) and name not in found)

    class FromCatalogue(ModelInputs):
        model_id: ClassVar[str] = its_id
        makes: ClassVar[str] = its_output
        media: ClassVar[Mapping[str, MediaField]] = MappingProxyType(found)
        texts: ClassVar[frozenset[str]] = its_texts
        earlier_until: ClassVar[datetime | None] = refreshed_at
        properties: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(its_properties)

        @classmethod
        def accepts(cls, name: str, value: Any) -> bool:
            """Whether an input takes a value."""
            return _accepts(checks[name], value)

        def earlier_body(self) -> dict[str, Any]:
            """Return what is submitted, with its first default for what was left out and has another by now."""
            earlier = {
                name: json.loads(first[name])
                for name in names_of_all
                if name not in found and name not in self._given() and defaults[name] != first[name]
            }
            return {name: value for name, value in (self.body() | earlier).items() if value is not None}

        def identity(self, body: Mapping[str, Any], media: Mapping[str, Sequence[str]]) -> dict[str, Any]:
            """Return what was given: a value that is the property's first default counts as not given."""
            plain = {name: _plain(body.get(name)) for name in names_of_all if name not in found}
            inputs = {name: value for name, value in plain.items() if json.dumps(value) != first[name]}
            return {"inputs": inputs, "media": {name: list(each) for name, each in media.items() if each}}

        def __reduce__(self) -> tuple[Any, ...]:
            body = self.body()
            given = {name: body.get(name) for name in self._given()}
            told = (model_id, dict(schema), dict(media or {}), makes, dict(first_defaults), refreshed_at)
            return _unpickled, (*told, given)

        def _given(self) -> set[str]:
            return {names[field] for field in self.model_fields_set}

        @model_validator(mode="after")
        def _together(self) -> Self:
            """Check what the schema says of several properties together."""
            if together is not None and (error := _first_of(together, self.body())):
                raise PydanticCustomError("schema", "{trouble}", {"trouble": sentence(error)})
            return self

    together = _validator(rest) if set(rest) - {"$defs", "definitions"} else None
    name = "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", model_id)) or "Inputs"
    described = f"All inputs of `{model_id}`, by its schema."
    try:
        return create_model(name, __base__=FromCatalogue, __doc__=described, **fields)
    except (PydanticUserError, SchemaError, RecursionError, UnicodeError):
        raise InvalidInput(f"The schema of {model_id} is none that a form can be made of.") from None


def _unpickled(
    model_id: str,
    schema: dict[str, Any],
    media: dict[str, str],
    makes: str,
    first_defaults: dict[str, Any],
    refreshed_at: datetime | None,
    given: dict[str, Any],
) -> ModelInputs:
    kind = class_of_schema(
        model_id, schema, media=media, makes=makes, first_defaults=first_defaults, refreshed_at=refreshed_at
    )
    return kind.model_validate(given)


def effective_defaults(schema: Mapping[str, Any], media: Mapping[str, str]) -> dict[str, Any]:
    """Return what a class of this schema sends for each property that is left out; `None` for nothing."""
    kind = class_of_schema("a/model", schema, media=media)
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    return {name: None if field.is_required() else field.default for name, field in fields.items()}


def _plain(value: Any) -> Any:
    """Return a value with one form for what JSON Schema takes as one: 1 for 1.0, names in order."""
    match value:
        case float() if value.is_integer() and abs(value) < exact_below():
            return int(value)
        case list():
            return [_plain(each) for each in value]
        case dict():
            return {name: _plain(value[name]) for name in sorted(value)}
    return value


def _multiple_of(_: Any, step: Any, value: Any, __: Any) -> Iterator[ValidationError]:
    """Compare as decimal numbers, as people write them: 0.3 is a multiple of 0.1."""
    if _is_number(value) and Decimal(str(value)) % Decimal(str(step)):
        yield ValidationError(f"not a multiple of {step}")


_Validator: Final[Any] = validators.extend(Draft202012Validator, {"multipleOf": _multiple_of})  # type: ignore[no-untyped-call]


def _validator(schema: dict[str, Any]) -> Any:
    return _Validator(schema, registry=referencing.Registry())


def standard(schema: Any) -> dict[str, Any]:
    """Return a schema of the catalogue as JSON Schema 2020-12, without what no validator could apply."""
    fixed = _fixed(schema, schema, 0)
    return fixed if isinstance(fixed, dict) else {}


def rules_together(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a schema says of several properties together, with the definitions that it refers to."""
    return {name: value for name, value in schema.items() if name not in _OF_PROPERTIES}


def subschemas_changed(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a schema with each schema that is directly within it changed; all else, such as a default, stays."""
    changed: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _SCHEMAS:
            changed[name] = change(value)
        elif name in _LISTS and isinstance(value, list):
            changed[name] = [change(each) for each in value]
        elif name in _NAMED and isinstance(value, dict):
            changed[name] = {key: change(each) for key, each in value.items()}
        else:
            changed[name] = value
    return changed


def is_text(name: str, schema: Mapping[str, Any]) -> bool:
    """Whether a property is a free text from a person, whose default is a sample: a prompt, not a setting.

    It is a string without choices, pattern or format, and its name ends in a word such as `prompt`, `text` or `lyrics`,
    or it may be longer than 200 characters, or its default has several words.
    """
    if types_of(schema) - {"null"} != {"string"} or {"enum", "const", "pattern", "format"} & schema.keys():
        return False
    default, longest = schema.get("default"), schema.get("maxLength")
    return (
        bool(set(re.split(r"[^a-z]+", name.lower())[-1:]) & _TEXT_WORDS)
        or (isinstance(longest, int) and longest > _LONG_TEXT)
        or (isinstance(default, str) and len(default.split()) > 1)
    )


def _field(
    name: str, schema: dict[str, Any], check: Callable[[Any], Any], *, needed: bool, is_sample: bool, is_medium: bool
) -> tuple[Any, Any]:
    default = schema.get("default")
    given = default is not None and not is_sample and _accepts(check, default)
    shown = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
    if not given:
        shown.pop("default", None)
    given_or_default = (lambda value: check(default if value is None else value)) if given and needed else check
    annotation: Any = Annotated[_annotation(schema), PlainValidator(given_or_default), WithJsonSchema(shown)]
    facts: dict[str, Any] = {
        "alias": name,
        "title": _text_of(schema, "title") or name.replace("_", " ").capitalize(),
        "description": _text_of(schema, "description"),
        "repr": not is_medium,
    }
    if given:
        return annotation, Field(default=default, **facts)
    if needed:
        return annotation, Field(**facts)
    return annotation | None, Field(default=None, **facts)


def _check(schema: dict[str, Any], *, text: bool, needed: bool, medium: MediaField | None) -> Callable[[Any], Any]:
    validator = _validator(schema if medium is None else of_any_address(schema))
    whole = "integer" in types_of(schema)

    def check(value: Any) -> Any:
        if value is None and not needed:
            return None
        if whole:
            value = integer(value)
        if trouble := _not_json(value):
            raise PydanticCustomError("not_json", "{trouble}", {"trouble": trouble})
        if text and isinstance(value, str):
            value = normal_text(value)
            if needed and (trouble := unusable(value)):
                raise PydanticCustomError("unusable_text", "{trouble}", {"trouble": trouble})
        if error := _first_of(validator, value):
            raise PydanticCustomError("schema", "{trouble}", {"trouble": sentence(error)})
        if medium is not None and not all(isinstance(each, str) for each in ([value], value)[medium.many]):
            raise PydanticCustomError("schema", "it has to name a file, by a path, https:// or s3://")
        if medium is None and not text and (trouble := file_in(value)):
            raise PydanticCustomError("a_file", "{trouble}", {"trouble": trouble})
        return value

    return check


def of_any_address(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a medium's schema without what only a URL can keep: a path and `s3://` are staged."""
    kept = {name: rule for name, rule in schema.items() if name not in ("pattern", "minLength", "maxLength", "format")}
    items = kept.get("items")
    return kept | {"items": of_any_address(items)} if isinstance(items, dict) else kept


def _first_of(validator: Any, value: Any) -> ValidationError | None:
    """Return what is wrong; what a schema says that no validator can apply is the service's to refuse."""
    try:
        return _first(validator.iter_errors(value))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None
    except referencing.exceptions.Unresolvable:
        return None


def _first(errors: Iterator[ValidationError]) -> ValidationError | None:
    return min(errors, key=lambda error: len(error.absolute_path), default=None)


def _accepts(check: Callable[[Any], Any], value: Any) -> bool:
    try:
        check(value)
    except PydanticCustomError:
        return False
    return True


def _not_json(value: Any, depth: int = 0) -> str:
    """Return why a value cannot be sent as JSON; an empty text if it can."""
    if depth > _DEEPEST:
        return f"it is nested more than {_DEEPEST} levels deep"
    match value:
        case bool() | int() | None:
            return ""
        case float():
            return "" if math.isfinite(value) else "it has to be a finite number"
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                return "the text is not valid Unicode"
            return ""
        case list():
            return next(filter(None, (_not_json(each, depth + 1) for each in value)), "")
        case dict():
            if not all(isinstance(name, str) for name in value):
                return "names within it have to be texts"
            both = (part for pair in value.items() for part in pair)
            return next(filter(None, (_not_json(part, depth + 1) for part in both)), "")
    return "it is no value that JSON has: give a text, a number, true or false, a list or an object"


def _annotation(schema: Mapping[str, Any]) -> Any:
    """Return the Python type that a program, a form or an option is told; the schema itself is the check."""
    choices = schema.get("enum")
    if isinstance(choices, list) and 0 < len(choices) <= _CHOICES and all(isinstance(c, (str, int)) for c in choices):
        return Literal[tuple(choices)]
    scalar: dict[frozenset[str], Any] = {
        frozenset({"string"}): str,
        frozenset({"integer"}): int,
        frozenset({"number"}): float,
        frozenset({"integer", "number"}): float,
        frozenset({"boolean"}): bool,
    }
    named = frozenset(types_of(schema) - {"null"})
    if named == {"array"}:
        items = schema.get("items")
        of_items: Any = _annotation(items) if isinstance(items, dict) else Any
        return list[of_items]
    return scalar.get(named, Any)


def _text_of(schema: Mapping[str, Any], name: str) -> str | None:
    value = schema.get(name)
    return value if isinstance(value, str) and value.strip() else None


def _name_in_python(name: str, taken: Mapping[str, Any]) -> str:
    """Return a name for a field that Python and pydantic take; the property's own name is its alias."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_") or "field"
    if (
        plain[0].isdigit()
        or keyword.iskeyword(plain)
        or hasattr(ModelInputs, plain)
        or plain in ModelInputs.__annotations__
    ):
        plain = f"{plain}_" if not plain[0].isdigit() else f"field_{plain}"
    while plain in taken:
        plain += "_"
    return plain


def _fixed(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return schema if isinstance(schema, bool) else {}
    fixed = subschemas_changed(schema, partial(_fixed, root=root, depth=depth + 1))
    _fix_type(fixed)
    _fix_keywords(fixed, root)
    return fixed


def _fix_type(schema: dict[str, Any]) -> None:
    named = schema.get("type")
    if named is None:
        return
    types = [
        _TYPES.get(str(each).lower(), str(each).lower()) for each in (named if isinstance(named, list) else [named])
    ]
    known = [each for each in types if each in _STANDARD]
    if known and len(known) == len(types):
        schema["type"] = known if isinstance(named, list) else known[0]
    else:  # a type of the service's own, such as `file`: nothing is known about it
        del schema["type"]


def _fix_keywords(schema: dict[str, Any], root: Any) -> None:
    """Put right, or drop, what a validator of JSON Schema 2020-12 would stumble over."""
    for name, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(name), bool):  # draft 4
            exclusive = schema.pop(name)
            if exclusive and bound in schema:
                schema[name] = schema.pop(bound)
    if schema.pop("nullable", False) is True and isinstance(schema.get("type"), str):  # OpenAPI 3.0
        schema["type"] = [schema["type"], "null"]
    if isinstance(schema.get("required"), bool):  # draft 3
        del schema["required"]
    if isinstance(schema.get("items"), list):  # before 2020-12
        schema["prefixItems"] = schema.pop("items")
    reference = schema.get("$ref")
    if reference is not None and not _leads_somewhere(reference, root):
        del schema["$ref"]
    for name in list(schema):
        if not _usable(name, schema[name]):
            del schema[name]


def _usable(name: str, value: Any) -> bool:
    """Whether the value of a keyword is one that a validator can apply."""
    match name:
        case "pattern":
            return isinstance(value, str) and _compiles(value)
        case "patternProperties":
            return isinstance(value, dict) and all(map(_compiles, value))
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            return _is_number(value)
        case "multipleOf":
            return _is_number(value) and value > 0
        case "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties":
            return _is_number(value) and value >= 0 and value == int(value)
        case "enum" | "anyOf" | "oneOf" | "allOf":
            return isinstance(value, list) and bool(value)
        case "required":
            return isinstance(value, list) and all(isinstance(each, str) for each in value)
        case "properties" | "$defs" | "definitions":
            return isinstance(value, dict)
        case "$id" | "$schema" | "$dynamicRef" | "$recursiveRef" | "$anchor":
            return False  # they only change what references mean
    return True


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _leads_somewhere(reference: Any, root: Any) -> bool:
    """Whether a reference names a definition of the same schema; nothing is ever fetched."""
    if not isinstance(reference, str) or not reference.startswith(("#/$defs/", "#/definitions/")):
        return False
    place = root
    for part in reference[2:].split("/"):
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(place, dict) or part not in place:
            return False
        place = place[part]
    return isinstance(place, (dict, bool))
