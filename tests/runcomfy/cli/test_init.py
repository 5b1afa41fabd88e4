"""`prefect-runcomfy init`: a project of one's own gets three files, which say what the shipped ones say."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from runcomfy.cli.__main__ import main
from tests.runcomfy.cli.command_line import ROOT

WRITTEN = ["prefect.yaml", "flows/my_video.py", ".env.example"]
Said = pytest.CaptureFixture[str]


def files_in(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


def described(file: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(file))


def test_a_new_project_gets_three_files_and_hears_what_is_next(tmp_path: Path, capsys: Said) -> None:
    folder = tmp_path / "my project"

    assert main(["init", str(folder)]) == 0

    assert sorted(files_in(folder)) == sorted(WRITTEN)
    said = capsys.readouterr().out
    assert said.splitlines()[:3] == [f"created   {folder / name}" for name in WRITTEN]
    assert f"cd '{folder}'" in said and "prefect_runcomfy.deployments.setup" in said


def test_the_deployments_are_the_shipped_ones_by_module(tmp_path: Path) -> None:
    """Nothing else differs, so that what is tested here holds there; the project's own flow comes first."""
    main(["init", str(tmp_path), "--json"])
    own, shipped = described(tmp_path / "prefect.yaml"), described(ROOT / "deployments" / "prefect.yaml")
    mine, *theirs = own["deployments"]

    assert (mine["name"], mine["entrypoint"]) == ("my-video", "flows/my_video.py:my_video")
    assert mine["parameters"] == theirs[0]["parameters"] and "pull" not in mine
    for each in shipped["deployments"]:
        file, _, function = each["entrypoint"].partition(".py:")
        each |= {"entrypoint": f"prefect_runcomfy.{file.replace('/', '.')}.{function}", "pull": []}
    assert theirs == shipped["deployments"]
    assert own["definitions"] == shipped["definitions"]
    assert [list(step) for step in own["build"]] == [
        [f"prefect_runcomfy.{name}" for name in s] for s in shipped["build"]
    ]
    assert [list(step.values()) for step in own["build"]] == [list(step.values()) for step in shipped["build"]]


def test_every_variable_of_prefect_yaml_is_explained(tmp_path: Path) -> None:
    """Without the pool's, `prefect deploy` finds no pool; the others may stay comments."""
    main(["init", str(tmp_path), "--json"])
    written = files_in(tmp_path)
    named = set(re.findall(r"RUNCOMFY_\w+", written["prefect.yaml"]))

    assert named - set(re.findall(r"^#?(\w+)=", written[".env.example"], re.MULTILINE)) == {"RUNCOMFY_INBOX_QUEUE"}
    assert re.search(r"^RUNCOMFY_WORK_POOL=runcomfy$", written[".env.example"], re.MULTILINE)


def test_the_same_again_changes_nothing(tmp_path: Path, capsys: Said) -> None:
    """One that was deleted is written again."""
    main(["init", str(tmp_path)])
    (tmp_path / ".env.example").unlink()
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in WRITTEN[:2]}
    capsys.readouterr()

    assert main(["init", str(tmp_path), "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert said == {"folder": str(tmp_path), "created": WRITTEN[2:], "unchanged": WRITTEN[:2]}
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before


def test_nothing_is_overwritten(tmp_path: Path, capsys: Said) -> None:
    """A file that differs, or a link to nowhere: all of them are named, and nothing at all is written."""
    (tmp_path / "prefect.yaml").write_text("name: mine\n", encoding="utf-8")
    (tmp_path / ".env.example").symlink_to(tmp_path / "nowhere")

    assert main(["init", str(tmp_path)]) == 2

    assert files_in(tmp_path) == {"prefect.yaml": "name: mine\n"}
    assert not (tmp_path / "nowhere").exists() and not (tmp_path / "flows").exists()
    assert "prefect.yaml, .env.example. Nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize("in_the_way", [".", "flows"])
def test_a_folder_that_cannot_be_made_is_named(in_the_way: str, tmp_path: Path, capsys: Said) -> None:
    """Such as one whose name a file has."""
    project = tmp_path / "project"
    file = project / in_the_way
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine", encoding="utf-8")

    assert main(["init", str(project)]) == 3

    said = capsys.readouterr().err
    assert str(file) in said and "Traceback" not in said and "\n\n" not in said
    assert [path for path in (project, *project.rglob("*")) if path.is_file()] == [file]


def test_what_may_not_be_written_is_named(tmp_path: Path, capsys: Said) -> None:
    """A folder of somebody else's, say."""
    if os.geteuid() == 0:
        folder = Path("/proc/runcomfy")  # root may write everywhere else
    else:
        folder = tmp_path / "theirs"
        folder.mkdir(mode=0o555)

    assert main(["init", str(folder)]) == 3
    assert "cannot be written" in capsys.readouterr().err


MODELS = ROOT / "tests" / "contract" / "models"
EDIT, SEEDANCE = (MODELS / f"{name}.json" for name in ("wan-ai-wan-2.7-edit", "bytedance-seedance-2.0-pro"))


def test_models_get_flows_with_forms_of_their_own(tmp_path: Path, capsys: Said) -> None:
    """Two models, two files each; the deployments are in prefect.yaml; a second time nothing changes."""
    words = ["init", str(tmp_path), "--model", str(EDIT), "--model", str(SEEDANCE)]

    assert main(words) == 0

    stems = ("wan_ai_wan_2_7_edit", "bytedance_seedance_2_0_pro")
    names = [f"flows/{stem}.{end}" for stem in stems for end in ("py", "json")]
    assert sorted(files_in(tmp_path)) == sorted([*WRITTEN, *names])
    _, *deployments = described(tmp_path / "prefect.yaml")["deployments"]
    edit, seedance = deployments[:2]
    assert edit["name"] == "wan-ai-wan-2.7-edit"
    assert edit["entrypoint"] == f"flows/{stems[0]}.py:{stems[0]}"
    assert seedance["parameters"] == described(tmp_path / "prefect.yaml")["deployments"][0]["parameters"] | {
        "model": "bytedance/seedance-2.0/pro"
    }
    before = files_in(tmp_path)
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["created"], sorted(told["unchanged"])) == ([], sorted(names)) and "add_to_prefect_yaml" not in told
    assert files_in(tmp_path) == before


def test_a_project_that_exists_gets_the_flow_and_hears_what_to_add(tmp_path: Path, capsys: Said) -> None:
    main(["init", str(tmp_path)])
    before = files_in(tmp_path)
    capsys.readouterr()

    assert main(["init", str(tmp_path), "--model", str(EDIT)]) == 0

    said = capsys.readouterr().out
    assert "add this below `deployments:`" in said and "entrypoint: flows/wan_ai_wan_2_7_edit.py" in said
    assert {name: text for name, text in files_in(tmp_path).items() if name in before} == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["image-to-video"], "form already, image-to-video"),
        (["no model"], "--model: 'no model' is no model"),
        ([str(MODELS / "any-lora-base-model.json")], "is no model"),
        (["gone.json"], "gone.json cannot be read"),
    ],
)
def test_a_model_that_cannot_have_one_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: Said, given: list[str], words: str
) -> None:
    code = main(["init", str(tmp_path / "new"), *(word for each in given for word in ("--model", each))])

    assert code != 0
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()


def test_two_models_of_one_file_name_are_refused(tmp_path: Path, capsys: Said) -> None:
    entry = json.loads(EDIT.read_text(encoding="utf-8"))
    for number, name in enumerate(("a/b-c", "a-b/c")):
        (tmp_path / f"{number}.json").write_text(json.dumps(entry | {"model_id": name}), encoding="utf-8")

    assert main(["init", str(tmp_path / "new"), *(w for n in "01" for w in ("--model", str(tmp_path / f"{n}.json")))])

    assert "a/b-c and a-b/c would both be flows/a_b_c.py" in " ".join(capsys.readouterr().err.split())


def test_a_model_takes_no_place_of_the_flow_to_start_from_and_is_there_once(tmp_path: Path, capsys: Said) -> None:
    entry = json.loads(EDIT.read_text(encoding="utf-8"))
    for name, model_id in (("mine", "my/video"), ("a", "a/b"), ("again", "a/b")):
        (tmp_path / f"{name}.json").write_text(json.dumps(entry | {"model_id": model_id}), encoding="utf-8")

    assert main(["init", str(tmp_path / "new"), "--model", str(tmp_path / "mine.json")])
    assert "my/video would both be flows/my_video.py" in " ".join(capsys.readouterr().err.split())
    twice = [word for name in ("a", "again") for word in ("--model", str(tmp_path / f"{name}.json"))]
    assert main(["init", str(tmp_path / "new"), *twice]) == 0
    assert [each["name"] for each in described(tmp_path / "new" / "prefect.yaml")["deployments"]].count("a-b") == 1
