from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.storage.keys import RESERVED, KeyTemplate


def render(pattern: str | None = None, **changes: object) -> str:
    facts = {"model": "wan-ai/wan-2-1/image-to-video", "request_id": "r-1", "index": 0, "ext": "mp4"} | changes
    return (KeyTemplate(pattern) if pattern else KeyTemplate()).render(**facts)  # type: ignore[arg-type]


def test_the_default_names_model_request_and_output() -> None:
    """By default a file is under its model, named by its request and its number."""
    assert render() == "wan-ai/wan-2-1/image-to-video/r-1-0.mp4"


def test_every_field_can_be_used() -> None:
    """A template may use all that is known of the output."""
    pattern = "{generation}/{prompt}-{seed}-{request_id}-{index:03d}.{ext}"

    key = render(
        pattern, generation="a" * 64, prompt="Ein Bär, der über die Brücke tanzt — und noch viel weiter", seed=7
    )

    assert key == "a" * 64 + "/ein-bar-der-uber-die-brucke-tanzt-und-7-r-1-000.mp4"


def test_an_unknown_fact_has_a_placeholder() -> None:
    """A missing prompt, seed or generation key does not leave a hole in the key."""
    pattern = "{prompt}/{seed}/{generation}/{request_id}-{index}.{ext}"

    assert render(pattern, prompt="🦊🦊") == "untitled/noseed/nogeneration/r-1-0.mp4"


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "{request_id}-{index}",
        "{request_id}.{ext}",
        "{prompt}-{index}.{ext}",
        "{generation}-{index}.{ext}",
        "{nobody}/{request_id}-{index}.{ext}",
        "{request_id.__class__}-{index}.{ext}",
        "{request_id[0]}-{index}.{ext}",
        "{request_id!r}-{index}.{ext}",
        "{request_id:>99}-{index}.{ext}",
        "{request_id}-{index:999999999}.{ext}",
        "{request_id}-{index:{index}}.{ext}",
        "{}-{index}.{ext}",
        "{request_id-{index}.{ext}",
        "/{request_id}-{index}.{ext}",
        "a//{request_id}-{index}.{ext}",
        "../{request_id}-{index}.{ext}",
        "./{request_id}-{index}.{ext}",
        "{request_id}-{index}..{ext}",
        "{request_id}-{index}.{ext}/",
        "a\n{request_id}-{index}.{ext}",
        "a b/{request_id}-{index}.{ext}",
        "{{x}}/{request_id}-{index}.{ext}",
        "a" * 900 + "{request_id}-{index}.{ext}",
    ],
)
def test_a_template_that_cannot_work_is_refused_at_once(pattern: str) -> None:
    """A wrong template is a setting to fix before anything is paid for."""
    with pytest.raises(ConfigurationError):
        KeyTemplate(pattern)


@pytest.mark.parametrize("folder", sorted(RESERVED))
@pytest.mark.parametrize("written", ["{}", "{}/below", "{}.", ".{}"])
@pytest.mark.parametrize("cased", [str, str.upper, str.title])
def test_a_template_never_points_into_a_folder_of_another_purpose(
    folder: str, written: str, cased: Callable[[str], str]
) -> None:
    """However it is written: some stores ignore case, or a dot at the end of a name."""
    with pytest.raises(ConfigurationError, match="Nothing was paid for"):
        KeyTemplate(f"{written.format(cased(folder))}/{{request_id}}-{{index}}.{{ext}}")


@pytest.mark.parametrize("pattern", ["journals/", "my/journal/", "journal-", "videos/images/", "image/"])
def test_a_template_may_be_named_like_such_a_folder(pattern: str) -> None:
    """Only the first folder below the prefix counts, as a whole."""
    KeyTemplate(f"{pattern}{{request_id}}-{{index}}.{{ext}}").check_place(prefix="a/")


@pytest.mark.parametrize(
    ("pattern", "facts"),
    [
        ("{prompt}/{request_id}-{index}.{ext}", {"prompt": "Journal!"}),
        ("{prompt}/{seed}/{request_id}-{index}.{ext}", {"prompt": "  images  "}),
        ("jour{prompt}/{request_id}-{index}.{ext}", {"prompt": "nal"}),
        ("{model}/{request_id}-{index}.{ext}", {"model": "media/wan-2-1"}),
        ("{model}/{request_id}-{index}.{ext}", {"model": "Models/x"}),
    ],
)
def test_a_generation_whose_facts_lead_there_is_refused_before_it_is_paid_for(pattern: str, facts: Any) -> None:
    """It is this generation's fault and not that of the setting: others go on."""
    template = KeyTemplate(pattern)
    template.check_place(**{"prompt": "rain", "model": "wan-ai/x"})

    with pytest.raises(InvalidInput, match="Nothing was paid for"):
        template.check_place(**facts)


@pytest.mark.parametrize(("prefix", "pattern"), [("team/journal/", "v/"), ("team/", "videos/"), ("", "team/Videos/")])
def test_a_journal_elsewhere_in_the_bucket_does_not_cover_the_archive(prefix: str, pattern: str) -> None:
    """Whatever the archive's prefix is."""
    template = KeyTemplate(f"{pattern}{{request_id}}-{{index}}.{{ext}}")
    template.check_place(prefix=prefix, journal="team/else/")

    with pytest.raises(ConfigurationError, match="folder of the journal"):
        template.check_place(prefix=prefix, journal="team/journal/" if "journal" in prefix else "team/videos/")


@given(request_id=st.sampled_from([*RESERVED, *(name.upper() for name in RESERVED)]), index=st.integers(0, 99))
def test_what_is_paid_for_is_archived_beside_a_folder_of_another_purpose(request_id: str, index: int) -> None:
    """What was unknown before, such as the request's id, leads nowhere either; the inbox recognises it as ours."""
    pattern = "{request_id}/{index}.{ext}"

    key = render(pattern, request_id=request_id, index=index)

    assert key.partition("/")[0].casefold() not in RESERVED
    assert KeyTemplate(pattern).matches(key)
    assert not KeyTemplate(pattern).matches(f"a/{key}")


@given(model=st.text(max_size=50), request_id=st.text(max_size=300), prompt=st.text(max_size=100))
def test_keys_are_safe_whatever_the_facts(model: str, request_id: str, prompt: str) -> None:
    """No fact can lead a key out of its folder or put a strange character into it."""
    key = render("v/{model}/{request_id}/{prompt}-{index}.{ext}", model=model, request_id=request_id, prompt=prompt)

    assert re.fullmatch(r"v(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+\.mp4", key)
    assert ".." not in key


@given(st.lists(st.text(max_size=300), min_size=2, max_size=2, unique=True))
def test_two_requests_never_share_a_key(ids: list[str]) -> None:
    """An identifier that had to be changed to be safe does not become another one."""
    assert render(request_id=ids[0]) != render(request_id=ids[1])


def test_a_template_can_be_pickled() -> None:
    """A template survives pickling, as a task's parameter must."""
    template = KeyTemplate("{generation}/{request_id}-{index}.{ext}")

    assert pickle.loads(pickle.dumps(template)) == template
