"""Files beside an image that are to say what becomes of it: an example is one line.

With `words` it is refused in these, before anything is paid for; otherwise it gives a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from runcomfy.inbox.images import Found
from runcomfy.inbox.sidecars import MAX_SIDECAR_BYTES, check_sidecar_size, sidecar_fields
from runcomfy.models.orders import Order, read_order

__all__ = ["EXAMPLES", "Sidecar", "requested"]


@dataclass(frozen=True)
class Sidecar:
    """A file's name and bytes, and the words of its refusal, or none."""

    name: str
    data: bytes
    words: str = ""


def at(name: str, text: str, words: str = "", encoding: str = "utf-8") -> Sidecar:
    return Sidecar(name, text.encode(encoding), words)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
ERROR = "<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"

EXAMPLES = (
    # the prompt alone
    at("plain.txt", "snow begins to fall\n"),
    at("lines.txt", "snow\r\n\r\nand rain"),
    at("marked.txt", "\ufeffsnow"),
    at("utf_16.txt", "Schnee fällt", encoding="utf-16"),
    at("weights.txt", "[a cat:0.8] in {deep|light} snow"),
    at("braces.txt", "{snow} begins to fall"),
    at("less_than.txt", "<3 snow, a heart"),
    at("empty.txt", "", "prompt: it is missing"),
    at("latin_1.txt", "Schnee fällt", "it is no text in UTF-8", "latin-1"),
    at("nul.txt", "a\0b", "NUL"),
    at("escape.txt", "\x1b[31msnow", "control character"),
    at("page.txt", "<!DOCTYPE html><html><body>Sign in</body></html>", "it is an HTML page"),
    at("error.txt", ERROR, "it is an XML document"),
    at("pointer.txt", POINTER, "run `git lfs pull`"),
    at("word.txt", "{\\rtf1\\ansi snow}", "an RTF document"),
    at("json.txt", '{"prompt": "snow"}', "name it json.json"),
    at("list.txt", '["snow"]', "it is a list in JSON"),
    at("scene.txt", '{"scene": "snow", "camera": "slow pan"}'),
    at("lora.txt", "<lora:snow:0.8> a cat in snow"),
    at("tag.txt", "<cinematic> a cat in snow"),
    at("break.txt", "<br>a cat<br/>in snow"),
    at("error_without_head.txt", "<Error><Code>AccessDenied</Code></Error>", "it is an XML document"),
    at("upper_case.txt", "<HTML><BODY>Sign in</BODY></HTML>", "it is an HTML page"),
    Sidecar("image.txt", b"\x89PNG\r\n\x1a\n", "it is no text in UTF-8"),
    # any fields
    at("plain.json", '{"prompt": "snow", "seed": 7, "num_frames": 81}'),
    at("marked.json", '\ufeff{"prompt": "snow"}'),
    at("utf_32.json", '{"prompt": "Schnee fällt"}', encoding="utf-32"),
    at("digits.json", '{"prompt": "snow", "seed": "7"}'),
    at("null.json", '{"prompt": "snow", "seed": null}'),
    at("empty.json", " \n", "it is empty"),
    at("array.json", '[{"prompt": "snow"}]', "it is not a JSON object such as"),
    at("text.json", '"snow"', "it is not a JSON object such as"),
    at("comma.json", '{"prompt": "snow",}', "it is not JSON: Expecting property name"),
    at("comment.json", '{"prompt": "snow"} // so', "it is not JSON: Extra data at line 1, column 20"),
    at("python.json", "{'prompt': 'snow'}", "it is not JSON"),
    at("yaml.json", "prompt: snow", "it is not JSON"),
    at("lines.json", '{"prompt": "a"}\n{"prompt": "b"}', "it is not JSON: Extra data at line 2"),
    at("cut.json", '{"prompt": "sn', "it is not JSON: Unterminated string"),
    at("nan.json", '{"prompt": "snow", "seed": NaN}', "NaN is not a JSON value"),
    at("twice.json", '{"prompt": "a", "prompt": "b"}', "prompt is given twice"),
    at("nested.json", '{"prompt": {"text": "snow"}}', "its prompt is not a text"),
    at("number.json", '{"prompt": 7}', "its prompt is not a text"),
    at("image.json", '{"prompt": "snow", "image": "b.png"}', "it names an image"),
    at("capital.json", '{"Prompt": "snow"}', "did you mean prompt?"),
    at("unknown.json", '{"prompt": "snow", "steps": 20}', "steps: there is no such field"),
    at("other_model.json", '{"prompt": "snow", "model": "x/y"}', "there is no model"),
    at("half.json", '{"prompt": "snow", "seed": 7.5}', "seed: Input should be"),
    at("exponent.json", '{"prompt": "snow", "seed": 1e400}', "digits may be lost"),
    at("many_digits.json", '{"seed": ' + "9" * 5000 + "}", "more than 300 digits"),
    at("half_a_character.json", '{"prompt": "\\ud800"}', "half of a character"),
    at("deep.json", '{"prompt": ' + "[" * 60_000, "nested too deeply"),
    at("page.json", "<html>Sign in</html>", "it is an HTML page"),
    at("error.json", ERROR, "it is an XML document"),
    at("pointer.json", POINTER, "run `git lfs pull`"),
    at("large.json", " " * (MAX_SIDECAR_BYTES + 1), "65,536 are allowed"),
    Sidecar("packed.json", b"\x1f\x8b\x08\0", "it is no text in UTF-8"),
)  # fmt: skip


def requested(example: Sidecar) -> Order:
    """Return what is asked for, or raise what is said about the file."""
    found = Found(f"in/{example.name}", "e", len(example.data), datetime.now(UTC))
    check_sidecar_size(found)
    return read_order(sidecar_fields(found, example.data) | {"image": "s3://images/in/p.png"}, {})
