"""The form of a model: its inputs as the JSON schema of one object, from which a UI draws fields and a server checks.

A form refuses nothing that a run would accept, with three exceptions, all of them kept by programs that call the flow
`generate` itself: one file where a list is wanted, a text that fits only once it is normalised, and a signed URL, which
whatever stores the form's values would store. What a form cannot say is left to the run, which checks everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any, Final

from runcomfy.models.media_fields import MediaField, MediaKind
from runcomfy.models.pins import Pin, class_of
from runcomfy.models.schema import is_text, of_any_address, rules_together, standard, subschemas_changed

__all__ = ["deployment_name", "description_of", "form_of"]

_MEDIA: Final = {MediaKind.IMAGE: "An image", MediaKind.VIDEO: "A video", MediaKind.AUDIO: "A sound"}
_MANY: Final = {MediaKind.IMAGE: "Images", MediaKind.VIDEO: "Videos", MediaKind.AUDIO: "Sounds"}
_SECRETS: Final = ("signature", "token", "credential", "secret", "password", "key")
"""The ends of names in a query that hold one."""
_SHORT_SECRETS: Final = ("sig", "sign", "auth", "hmac", "jwt", "policy", "key-pair-id")
"""Such names, or their last words."""


def _in_any_case(words: tuple[str, ...]) -> str:
    """Return a pattern of words; JSON Schema knows no flag for upper and lower case."""
    return "|".join("".join(f"[{each.upper()}{each}]" if each.isalpha() else each for each in word) for word in words)


_SIGNED: Final = (
    rf"[?&#]([^?&#=]*({_in_any_case(_SECRETS)})|([^?&#=]*[-_.])?({_in_any_case(_SHORT_SECRETS)}))=|://[^/?#]*@"
)
_REFERENCES: Final = 200  # a form with more of them written out is none that a person fills in


def form_of(pin: Pin) -> dict[str, Any]:
    """Return the JSON schema of a model's inputs as a form, with nothing in it that refers to somewhere else.

    Args:
        pin: The model; its media are as the pin says.

    Raises:
        InvalidInput: No class can be made of the schema.
    """
    kind, whole = class_of(pin), standard(pin.input_schema)
    definitions: dict[str, Any] = {name: whole[name] for name in ("$defs", "definitions") if name in whole}
    plain = _Plain(definitions)
    properties, required = {}, []
    for position, field in enumerate(kind.model_fields.items()):
        python_name, facts = field
        name = facts.alias or python_name
        needed = facts.is_required()
        shown = {
            "title": facts.title or name,
            **_property(name, whole["properties"][name], kind.media.get(name), plain, needed=needed),
            "position": position,
        }
        if not needed and facts.default is not None:
            shown["default"] = facts.default
        properties[name] = shown
        required += [name] if needed else []
    form: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    form["additionalProperties"] = False
    together = {name: rule for name, rule in rules_together(whole).items() if name not in ("$defs", "definitions")}
    if together:  # behind a condition that always holds: a UI would draw alternatives instead of the fields
        form |= {"if": {}, "then": plain(together)}
    return form


def deployment_name(model_id: str) -> str:
    """Return the name of a model's own deployment, and of its files: its id without slashes."""
    return model_id.replace("/", "-")


def description_of(pin: Pin) -> str:
    """Return what stands above the form, as Markdown: what the model makes and costs."""
    makes = {"image": "images", "video": "videos", "audio": "sounds"}.get(pin.output, "files")
    price = f" From ${pin.base_price_usd:g}{f' per {pin.price_unit}' if pin.price_unit else ''}." * bool(
        pin.base_price_usd
    )
    said = f"\n\n{pin.description.strip()}" if pin.description.strip() else ""
    return (
        f"**{pin.display_name or pin.model_id}: its inputs in, archived {makes} out.**{said}\n\nThe model is "
        f"`{pin.model_id}`.{price} Its inputs are checked before anything is paid for, and the same inputs are paid "
        "for once. For another take, give any `variation`."
    )


def _property(
    name: str, schema: Mapping[str, Any], medium: MediaField | None, plain: _Plain, *, needed: bool
) -> dict[str, Any]:
    """Return a property as a form's field; it has a default only where one is sent."""
    own = {key: value for key, value in schema.items() if key not in ("default", "validations", "$defs", "definitions")}
    if medium is not None:
        return _medium(of_any_address(own), medium)
    shown: dict[str, Any] = plain(own)
    if needed and is_text(name, schema):
        shown["minLength"] = max(1, shown.get("minLength", 0))
    types = shown.get("type")
    if isinstance(types, list):  # forms know one type for each field
        named = [each for each in types if each != "null"]
        if "anyOf" not in shown and len(named) > 1:
            shown["anyOf"] = [{"type": each} for each in named]
        if len(named) == 1:
            shown["type"] = named[0]
        else:
            del shown["type"]
        if not needed and isinstance(shown.get("enum"), list):
            shown["enum"] = [each for each in shown["enum"] if each is not None]
    return shown


def _medium(schema: dict[str, Any], medium: MediaField) -> dict[str, Any]:
    """Return a medium's field: any address that can be staged, but none with a signature in it."""
    address = {"type": "string", "minLength": 1, "not": {"pattern": _SIGNED}}
    said = schema.get("description")
    where = "s3://bucket/key, or an https:// URL that is not signed: what is given here is stored with the run"
    words = f"{(_MANY if medium.many else _MEDIA)[medium.kind]}: {where}."
    rules = " ".join(rule.words for rule in medium.rules if rule.words)
    kept: dict[str, Any] = {
        key: schema[key] for key in ("title", "minItems", "maxItems", "uniqueItems") if key in schema
    }
    described = "\n\n".join(part for part in (said if isinstance(said, str) else "", words, rules) if part)
    shape: dict[str, Any] = {"type": "array", "items": address} if medium.many else address
    return {**kept, "description": described, **shape}


class _Plain:
    """Rewrites schemas for a form: references written out, and nothing that a server would judge otherwise than a run.

    Args:
        definitions: What references name.
    """

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._written_out = count(1)

    def __call__(self, schema: Any, within: tuple[str, ...] = ()) -> Any:
        """Return a schema rewritten; one that refers to itself accepts anything where it does so."""
        if not isinstance(schema, dict):
            return schema
        kept = dict(schema)
        reference = kept.pop("$ref", None)
        if isinstance(reference, str):
            if reference in within or next(self._written_out) > _REFERENCES:
                return {}
            named, within = self._named(reference), (*within, reference)
            if not isinstance(named, dict):
                return named
            kept = {**named, **kept}
        kept.pop("format", None)  # a server may check it; the service's own formats mean nothing to it
        step = kept.get("multipleOf")
        if isinstance(step, float) and not step.is_integer():
            del kept["multipleOf"]  # JSON Schema's arithmetic refuses 0.3 as a multiple of 0.1
        return subschemas_changed(kept, lambda inner: self(inner, within))

    def _named(self, reference: str) -> Any:
        place: Any = self._definitions
        for part in reference.removeprefix("#/").split("/"):
            place = place[part.replace("~1", "/").replace("~0", "~")]
        return place
