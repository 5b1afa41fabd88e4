"""How rows that cannot be generated are reported: all of them at once, each with its line and what to do."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from runcomfy.errors import InvalidInput
from runcomfy.manifest import BadRow, refuse_rows
from tests.runcomfy.manifest.making import csv_text, jsonl_text, problems, read_text

HEADER = (
    "image,prompt,model,variation,num_frames,frames_per_second,resolution,aspect_ratio,seed,"
    "enable_prompt_expansion,num_inference_steps,enable_safety_checker"
)
WRONG = [  # the row, and a piece of the message
    ("a.png,p,,,80", "num_frames: Input should be greater than or equal to 81"),
    ("a.png,p,,,101", "num_frames: Input should be less than or equal to 100"),
    ("a.png,p,,,eighty-one", "num_frames: Input should be a whole number"),
    ("a.png,p,,,81.5", "num_frames: Input should be a whole number"),
    (",p,text-to-video,,82", "num_frames: Input should be 81, 85, 89, 93 or 97"),
    ("a.png,p,,,,4", "frames_per_second: Input should be greater than or equal to 5"),
    ("a.png,p,,,,25", "frames_per_second: Input should be less than or equal to 24"),
    ("a.png,p,,,,fast", "frames_per_second: Input should be a whole number"),
    ("a.png,p,,,,,1080p", "resolution: Input should be '480p' or '720p'"),
    ("a.png,p,,,,,580p", "resolution: Input should be '480p' or '720p'"),
    (",p,text-to-video,,,,720", "resolution: Input should be '480p', '580p' or '720p'"),
    ("a.png,p,,,,,480P", "resolution: Input should be '480p' or '720p'"),
    ("a.png,p,,,,,,16:9", "aspect_ratio: image-to-video has no such setting"),
    (",p,text-to-video,,,,,1:1", "aspect_ratio: Input should be '16:9' or '9:16'"),
    ("a.png,p,,,,,,,lucky", "seed: Input should be a whole number"),
    ('a.png,p,,,,,,,"12,000"', "seed: Input should be a whole number"),
    ("a.png,p,,,,,,,1.5", "seed: Input should be a whole number"),
    ("a.png,p,,,,,,,007", "seed: Input should be a whole number"),
    ("a.png,p,,,,,,,NaN", "seed: Input should be a whole number"),
    ("a.png,p,,,,,,,true", "seed: Input should be a whole number"),
    ("a.png,p,,,,,,,,maybe", "enable_prompt_expansion: Input should be true or false"),
    ("a.png,p,,,,,,,,1", "enable_prompt_expansion: Input should be true or false"),
    ("a.png,p,,,,,,,,,many", "num_inference_steps: Input should be a whole number"),
    (",p,text-to-video,,,,,,,,20", "num_inference_steps: text-to-video has no such setting"),
    ("a.png,p,,,,,,,,,,off", "enable_safety_checker: Input should be true or false"),
    (",p,text-to-video,,,,,,,,,true", "enable_safety_checker: text-to-video has no such setting"),
    ("a.png", "prompt: it is missing"),
    ('a.png," ",,2', "prompt: it is missing"),
    (",p", "image: it is missing, and other rows have one; name one, or text-to-video as the model"),
    (",p,image-to-video", "image: image-to-video needs one"),
    ("a.png,p,text-to-video", "image: text-to-video takes none"),
    ("a.png,p,wan-2-2", "model: there is no model 'wan-2-2' here; it is one of image-to-video, text-to-video"),
    ("ftp://example.com/a.png,p", "image: an image cannot be read from ftp:"),
    ("good-0.png,Rain,,,81,16", "variation: the same generation as line 2; give it another variation or seed"),
    (
        "a.png,Snow, slowly, gently,,,,,,,,,",
        "it has 13 cells for 12 columns; put a text with a separator in it in quotes",
    ),
    ('a.png,"Snow" begins', "its quotes do not match: within a quoted text, a quote is written twice"),
    ("a.png,Snow\0begins", "prompt: the text holds a NUL character; take it out"),
]


def test_37_bad_rows_of_1000_are_named_with_what_to_do(tmp_path: Path) -> None:
    """Exactly those lines, each with its own sentence, in the error that a person reads; the others are good."""
    every = 27
    lines = [f"good-{number}.png,Rain" for number in range(1000)]
    expected = {}
    for number, (row, sentence) in enumerate(WRONG, 1):
        lines[every * number] = row
        expected[every * number + 2] = sentence

    manifest = read_text(tmp_path, "clips.csv", "\r\n".join([HEADER, *lines]))

    assert len(WRONG) == 37
    assert (manifest.row_count, len(manifest.rows)) == (1000, 963)
    found = problems(manifest)
    assert found.keys() == expected.keys()
    for line, sentence in expected.items():
        assert sentence in found[line]
    with pytest.raises(InvalidInput) as caught:
        refuse_rows(manifest, manifest.bad)
    said = str(caught.value).splitlines()
    assert said[0].startswith(f"37 of the 1,000 rows of {tmp_path}/clips.csv cannot be used; nothing was paid for.")
    assert said[1:] == [f"  line {line}: {sentence}" for line, sentence in found.items()]
    assert [place for place, _ in caught.value.violations] == [f"line {line}" for line in expected]


def test_everything_that_is_wrong_with_a_row_is_reported(tmp_path: Path) -> None:
    """One round of fixing is enough: all fields of a row are checked, and each is named once."""
    rows = [{"image": ["a.png"], "prompt": "", "seed": "x", "num_frames": 5, "aspect_ratio": "16:9"}]

    (bad,) = read_text(tmp_path, "m.jsonl", jsonl_text(rows)).bad

    assert sorted(problem.partition(":")[0] for problem in bad.problems) == [
        "aspect_ratio", "image", "num_frames", "prompt", "seed",
    ]  # fmt: skip


def test_an_unknown_column_is_named_once_and_no_row_is_good(tmp_path: Path) -> None:
    """A misspelt setting would be paid for and ignored, so none of its rows is run; all else is reported too."""
    rows = [{"image": f"{number}.png", "prompt": "Rain", "sed": "1"} for number in range(100)]
    rows[7]["prompt"] = ""

    manifest = read_text(tmp_path, "m.csv", csv_text(rows))

    assert problems(manifest) == {1: "sed: there is no such field; did you mean seed?", 9: "prompt: it is missing"}
    assert manifest.rows == ()
    with pytest.raises(InvalidInput, match=r"^The header and 1 of the 100 rows of .* cannot be used"):
        refuse_rows(manifest, manifest.bad)


def test_an_unknown_name_is_named_once_in_json_lines(tmp_path: Path) -> None:
    """There is no header: the line is where the name first occurs, with how many more have it; other rows are good."""
    rows = [{"prompt": f"Rain {number}"} | ({"sed": 1} if number % 2 else {}) for number in range(10)]

    manifest = read_text(tmp_path, "m.jsonl", jsonl_text(rows))

    assert problems(manifest) == {2: "sed: there is no such field; did you mean seed? (and in 4 more rows)"}
    assert [row.line for row in manifest.rows] == [1, 3, 5, 7, 9]


def test_of_thousands_a_hundred_are_shown(tmp_path: Path) -> None:
    """The text stays readable and says how many more there are; a program still gets every one."""
    rows = [{"prompt": f"Rain {number}", "num_frames": 1, "seed": "x"} for number in range(3000)]
    manifest = read_text(tmp_path, "m.jsonl", jsonl_text(rows))

    with pytest.raises(InvalidInput) as caught:
        refuse_rows(manifest, manifest.bad)

    said = str(caught.value).splitlines()
    assert said[0].startswith("3,000 of the 3,000 rows")
    assert (said[1].partition(":")[0], said[100].partition(":")[0], said[101:]) == (
        "  line 1", "  line 100", ["  … and 2,900 more"],
    )  # fmt: skip
    assert len(caught.value.violations) == 6000


def test_long_sentences_do_not_crowd_out_rows(tmp_path: Path) -> None:
    """However much is wrong with each of 37 rows, all 37 are shown, and the text is whole."""
    manifest = read_text(tmp_path, "m.jsonl", jsonl_text([{"prompt": f"Rain {number}"} for number in range(37)]))
    bad = [BadRow(line=row.line, problems=(f"image: {'x' * 250}",) * 5) for row in manifest.rows]

    with pytest.raises(InvalidInput) as caught:
        refuse_rows(manifest, bad)

    said = str(caught.value).splitlines()
    assert len(said) == 38
    assert all(line.endswith("; and 4 more") for line in said[1:])


def test_a_problem_found_later_is_named_with_the_rest(tmp_path: Path) -> None:
    """Images are read after the manifest; what is wrong with them joins what is known of the line."""
    manifest = read_text(tmp_path, "m.jsonl", jsonl_text([{"prompt": "Rain"}, {"prompt": "Snow", "seed": "x"}]))
    later = (BadRow(line=2, problems=("image: it is damaged",)), BadRow(line=1, problems=("image: it is empty",)))

    with pytest.raises(InvalidInput) as caught:
        refuse_rows(manifest, (*manifest.bad, *later))

    assert caught.value.violations == [
        ("line 1", "image: it is empty"),
        ("line 2", "seed: Input should be a whole number (it is x)"),
        ("line 2", "image: it is damaged"),
    ]
    assert pickle.loads(pickle.dumps(caught.value)).violations == caught.value.violations


def test_no_secret_of_a_row_is_shown(tmp_path: Path) -> None:
    """Signed URLs stay out of problems, errors and representations, wherever in a row they are."""
    url = "https://example.com/a.png?X-Amz-Signature=5ec2e7"
    rows = [{"image": url, "prompt": "Rain"}, {"image": "a", "prompt": "b", "model": url, "seed": url, url: "c"}]

    manifest = read_text(tmp_path, "m.jsonl", jsonl_text(rows))

    assert [row.order.image for row in manifest.rows] == [url]
    with pytest.raises(InvalidInput) as caught:
        refuse_rows(manifest, manifest.bad)
    assert "5ec2e7" not in f"{manifest!r} {caught.value} {caught.value.violations}"


def test_a_name_from_an_unknown_file_does_no_harm(tmp_path: Path) -> None:
    """Control characters and half characters are escaped, and a very long name is cut."""
    manifest = read_text(
        tmp_path, "m.jsonl", '{"prompt": "a", "\\u001b[31mred": 1, "\\ud800": 2, "": 3, "' + "n" * 9999 + '": 4}\n'
    )

    (bad,) = manifest.bad
    assert [problem.partition(":")[0] for problem in bad.problems] == [
        "'\\x1b[31mred'", "'\\ud800'", "''", "n" * 60 + "…",
    ]  # fmt: skip
