"""Progress bars are for terminals."""

from __future__ import annotations

import pytest

from inversion.console import progress_bars
from inversion.progress import no_progress


def test_without_a_terminal_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        progress("decoding", 1, 2)
    assert progress is no_progress
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_the_bar_goes_to_standard_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bars() as progress:
        progress("decoding", 1, 2)
        progress("decoding", 2, 2)
    output, errors = capfd.readouterr()
    assert "decoding" in errors
    assert output == ""
