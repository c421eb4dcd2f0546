"""Documents of every version that there was are read, and what cannot be read says why."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from inversion.config import document as documents
from inversion.config.document import VERSION, DocumentError, config_of, read_document, texts_of
from inversion.config.resolve import digest_of
from inversion.config.run_config import ADDED, RunConfig

FILES = Path(__file__).with_name("documents")
ALL = sorted(FILES.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FILES / name).read_text())
    return content


def test_there_is_a_document_of_every_version() -> None:
    assert {int(file.name[1:].partition("_")[0]) for file in ALL} == set(range(1, VERSION + 1))


@pytest.mark.parametrize("file", ALL, ids=lambda file: file.stem)
def test_a_document_of_every_version_is_read_as_one_of_today(file: Path) -> None:
    raw, found = load(file.name), read_document(file.read_text())
    assert found["version"] == VERSION
    assert raw["parameters"].items() <= found["parameters"].items()
    if "identity" in raw:
        assert raw["identity"]["parameters"].items() <= found["identity"]["parameters"].items()
        assert raw["identity"] == {**found["identity"], "parameters": raw["identity"]["parameters"]}
    if "run" in file.stem:
        assert config_of(found, "run").encoder == raw["parameters"]["encoder"]
        assert found["fallbacks"][0]["short"] == "no LPIPS"
        assert found["fallbacks"][0]["remedy"]


@pytest.mark.parametrize("file", [file for file in ALL if file.name not in ("v1_first_run.json",) and "eval" not in
                                  file.name], ids=lambda file: file.stem)
def test_the_digest_of_a_run_does_not_hang_on_the_version_of_its_document(file: Path) -> None:
    found = read_document(file.read_text())
    assert digest_of(found["identity"]) == found["digest"] == load(file.name)["digest"]


def test_every_parameter_has_its_value_of_then_where_a_document_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    added = {name for parameters in ADDED.values() for name in parameters}
    required = {"encoder", "decoder", "data", "weights"}
    # a new parameter has to raise VERSION and stand in ADDED with what runs before it had in its place
    assert set(RunConfig.model_fields) == documents.FIRST.keys() | added | required
    raw = load("v1_run.json")
    for name in ("patience", "precision", "threads"):
        del raw["parameters"][name]
    for name in ("patience", "precision"):
        del raw["identity"]["parameters"][name]
    monkeypatch.setattr(RunConfig.model_fields["patience"], "default", 99)
    found = read_document(json.dumps(raw))
    assert config_of(found, "run").patience == 15
    assert found["identity"]["parameters"]["patience"] == 15
    assert found["identity"]["parameters"]["precision"] == "fp32"
    assert "threads" not in found["identity"]["parameters"]


def test_a_parameter_that_came_later_is_what_runs_before_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "VERSION", 3)
    monkeypatch.setattr(documents, "ADDED", {3: {"warm_up": 0}})
    raw = load("v1_run.json")
    found = read_document(json.dumps(raw))
    assert (found["version"], found["parameters"]["warm_up"], found["identity"]["parameters"]["warm_up"]) == (3, 0, 0)
    raw |= {"version": 3, "parameters": {**raw["parameters"], "warm_up": 5}}
    assert read_document(json.dumps(raw))["parameters"]["warm_up"] == 5


def test_a_newer_document_is_read_and_not_computed_with() -> None:
    raw = load("v1_run.json") | {"version": VERSION + 1, "more": True}
    raw["parameters"]["warm_up"] = 5
    del raw["parameters"]["strict"]
    found = read_document(json.dumps(raw))
    assert documents.is_newer(found)
    assert found == raw
    with pytest.raises(DocumentError, match=f"^run a was made by a newer version of inversion: .* {VERSION + 1},"):
        config_of(found, "run a")


def test_a_parameter_that_is_not_known_any_more_is_read_and_named() -> None:
    raw = load("v1_run.json")
    raw["parameters"]["gone"] = 1
    found = read_document(json.dumps(raw))
    with pytest.raises(DocumentError, match=r"^run a has parameters that this version of .* does not know: gone\."):
        config_of(found, "run a")
    raw["parameters"] = {**load("v1_run.json")["parameters"], "precision": "fp8"}
    with pytest.raises(DocumentError, match=r"^run a cannot be used by this version of inversion: precision: 'fp8'"):
        config_of(read_document(json.dumps(raw)), "run a")


@pytest.mark.parametrize(("text", "says"), [
    ("", "is not JSON"), ('{"digest": "a', "is not JSON"), ("[" * 100_000, "is not JSON"), ("[]", "but a list"),
    ("null", "but a NoneType"), ("{}", "has no parameters"), ('{"version": "two"}', "wrong version"),
    ('{"version": true}', "wrong version"), ('{"version": 0}', "wrong version"), ('{"parameters": []}', "parameters"),
    ('{"version": 2, "see": "config.json"}', "has no parameters"), (f'{{"version": {VERSION + 1}}}', "newer version"),
])
def test_what_is_no_document_says_why(text: str, says: str) -> None:
    with pytest.raises(DocumentError, match=says):
        read_document(text)


@pytest.mark.parametrize(("place", "value"), [
    (("identity",), None), (("identity", "weights"), ["a"]), (("identity", "lpips"), 3), (("data",), "photos"),
    (("data", "images"), {"test": "four"}), (("parameters", "seed"), "0"), (("parameters", "encoder"), None),
    (("fallbacks",), [{"short": 1}]), (("fallbacks",), {}),
])
def test_a_part_of_the_wrong_kind_is_named(place: tuple[str, ...], value: object) -> None:
    raw = load("v1_run.json")
    part = raw
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    with pytest.raises(DocumentError, match=rf"has a wrong {re.escape('.'.join(place))}"):
        read_document(json.dumps(raw))


def test_a_document_too_long_for_a_tag_stands_in_the_file_alone() -> None:
    long = load("v1_run.json") | {"more": "x" * 5000}
    tag, text = texts_of(long)
    assert len(tag) < 5000
    with pytest.raises(DocumentError):
        read_document(tag)
    assert read_document(text)["more"] == long["more"]
    tag, text = texts_of(load("v1_run.json"))
    assert json.loads(tag) == json.loads(text)
    assert json.loads(tag)["version"] == VERSION
