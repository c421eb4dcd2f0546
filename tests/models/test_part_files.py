"""Files of a user's own: their names, the errors in them, and when they may be executed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inversion.errors import RequestError, UnknownNameError
from inversion.models import part_files
from inversion.models.part_code import full_name, load
from inversion.models.part_files import UntrustedCodeError, accept, find, keep, references, short_name

CODE = "class Mine:\n    pass\n\n\ndef build():\n    return 3\n\n\nif True:\n    Alias = Mine\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``mine.py`` in a folder that is not the current one; the data folder is empty."""
    monkeypatch.setenv("INVERSION_DATA", str(tmp_path / "data"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def untrusted(file: Path) -> Callable[[], str]:
    """The full name of ``Mine`` in a file that is not on this machine any more."""

    def make() -> str:
        name = full_name(f"{file}:Mine", "decoder")
        file.unlink()
        part_files._known.clear()
        return name

    return make


def test_the_full_name_follows_the_content_and_not_the_place(file: Path, tmp_path: Path) -> None:
    name = full_name(f"{file}:Mine", "decoder")
    assert name.startswith("mine.py:Mine@")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text(CODE)
    assert full_name(f"{other}/mine.py:Mine", "decoder") == name
    assert full_name(name, "decoder") == name
    (other / "mine.py").write_text(CODE + "# changed\n")
    assert full_name(f"{other}/mine.py:Mine", "decoder") != name
    assert short_name(name) == f"Mine@{name[-12:-4]}"
    assert short_name("wavelet") == "wavelet"


@pytest.mark.parametrize(("name", "said"), [
    ("{file}:Min", "mine.py has no decoder 'Min'. Known: Mine, build. Did you mean 'Mine'?"),
    ("{file}", "not of the form FILE.py:NAME"),
    ("{file}:Mine:block1", "not of the form FILE.py:NAME"),
    ("{file}:Mine@3f2a", "not of the form FILE.py:NAME"),
    ("nowhere.py:Mine", "no such file or folder: nowhere.py"),
    ("{file.parent}/elsewhere/my file.py:Mine", "only the letters A to Z"),
    ("mine.py:Mine@0123456789ab", "no file of that content is on this machine"),
])
def test_a_name_that_cannot_be_used_is_answered_in_one_line(file: Path, name: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        full_name(name.format(file=file), "decoder")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [
    (b"class Mine:\n    def f(:\n", "mine.py:2: syntax error: "),
    (b"x = '\xff'\n", "mine.py is not a text file in UTF-8 (at byte 5)"),
    (b"import os\n", "mine.py has no decoder 'Mine': it defines no class and no function"),
    (b"#" * 1_000_001, "the file is larger than 1,000,000 bytes"),
])
def test_a_file_that_is_no_part_is_found_without_executing_it(file: Path, content: bytes, said: str) -> None:
    file.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        full_name(f"{file}:Mine", "decoder")
    assert said in str(caught.value)


def test_naming_a_file_does_not_execute_it_and_loading_does_once(file: Path) -> None:
    file.write_text("import sys\nsys.modules['executed_by_a_test'] = sys\n" + CODE)
    name = full_name(f"{file}:build", "decoder")
    assert "executed_by_a_test" not in sys.modules
    assert load(name, "decoder")() == 3
    assert sys.modules.pop("executed_by_a_test") is sys
    assert load(name, "decoder") is load(name, "decoder")
    assert "executed_by_a_test" not in sys.modules
    assert load(full_name(f"{file}:Alias", "decoder"), "decoder").__name__ == "Mine"


@pytest.mark.parametrize(("content", "said"), [
    ("import einopps\nclass Mine: pass\n", "mine.py:1: the module 'einopps' is not installed here"),
    ("import helper\nclass Mine: pass\n", "mine.py:1: 'helper' is imported from the folder of mine.py. A decoder is "
                                          "one file, which is logged with its runs"),
    ("import sys\nif sys.argv == 3:\n    class Mine: pass\n", "mine.py did not define 'Mine' when it was executed"),
    ("import sys\nsys.exit('no')\nclass Mine: pass\n", "mine.py:2: SystemExit: no"),
    ("class Mine: pass\n\nMine.x\n", "mine.py:3: AttributeError: type object 'Mine' has no attribute 'x'"),
])
def test_a_file_that_fails_is_told_with_its_line(file: Path, content: str, said: str) -> None:
    (file.parent / "helper.py").write_text("")
    file.write_text(content)
    with pytest.raises(RequestError) as caught:
        load(full_name(f"{file}:Mine", "decoder"), "decoder")
    assert said in str(caught.value)


def test_the_code_of_a_run_is_executed_only_where_it_is_trusted(untrusted: Callable[[], str]) -> None:
    name = untrusted()
    with pytest.raises(UntrustedCodeError) as caught:
        accept([name, "wavelet"], lambda part: pytest.fail("it was fetched"), False, "run 1a2b")
    assert str(caught.value) == (
        f"run 1a2b needs the code of {name}, which is not on this machine and would be executed here. Read it "
        f"(code/{name[-12:]}/mine.py among the artifacts), then add --trust-code (in Python, trust_code=True)")
    with pytest.raises(RequestError, match="no file of that content"):
        load(name, "decoder")
    accept([name], lambda part: CODE.encode(), True, "run 1a2b")
    assert load(name, "decoder").__name__ == "Mine"


def test_other_code_than_the_name_stands_for_is_never_executed(untrusted: Callable[[], str]) -> None:
    name = untrusted()
    with pytest.raises(RequestError, match="damaged: it is not the code of"):
        accept([name], lambda part: b"class Mine: pass\n", True, "run 1a2b")
    assert not part_files._known


def test_a_file_of_that_content_in_the_current_folder_or_used_before_needs_no_trust(
    file: Path, tmp_path: Path, untrusted: Callable[[], str],
) -> None:
    keep([full_name(f"{file}:Mine", "decoder")])
    name = untrusted()
    accept([name], lambda part: pytest.fail("it was fetched"), False, "run 1a2b")
    (kept,) = (tmp_path / "data").rglob("mine.py")
    kept.write_text(CODE + "# changed\n")
    part_files._known.clear()
    assert find(references([name])[0]) is None
    Path("mine.py").write_text(CODE)
    accept([name], lambda part: pytest.fail("it was fetched"), False, "run 1a2b")


def test_a_file_that_another_user_has_put_into_the_data_folder_is_not_trusted(
    file: Path, untrusted: Callable[[], str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep([full_name(f"{file}:Mine", "decoder")])
    name = untrusted()
    monkeypatch.setattr(os, "getuid", lambda: os.stat("/").st_uid + 12345)
    assert find(references([name])[0]) is None


def test_a_path_in_the_name_of_a_run_is_not_followed(file: Path) -> None:
    name = full_name(f"{file}:Mine", "decoder")
    part_files._known.clear()
    forged = f"{file.parent}/{name}"  # the file is there, but somebody else has chosen it
    assert find(references([forged])[0]) is None


@pytest.mark.parametrize("name", ["{file}:Mine", "{file}", "mine.py:Mine@3f2a"])
def test_a_run_cannot_name_a_file_of_this_machine(file: Path, name: str) -> None:
    Path("mine.py").write_text(CODE)
    with pytest.raises(RequestError, match=r"names the file .* without a digest of its content"):
        accept([name.format(file=file)], lambda part: CODE.encode(), True, "run 1a2b")


def test_an_unknown_name_lists_classes_and_functions_only(file: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Known: Mine, build\."):
        full_name(f"{file}:xyz", "decoder")
