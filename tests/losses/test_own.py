"""Metrics and losses in files of the user's own: what they may be, and what is told of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from inversion.errors import RequestError
from inversion.losses.outside import outside_losses, outside_metrics, pinned_loss, pinned_metrics
from inversion.losses.reconstruction import OwnTerm, ReconstructionLoss
from inversion.sweeps.spec.spec import load_spec

METRIC = """
from torch import nn
def score(images, targets):
    return (images - targets).abs().mean((1, 2, 3))
score.higher_is_better = False
class Score(nn.Module):
    higher_is_better = True
    def forward(self, images, targets):
        return -score(images, targets)[:, None]
made = Score()
"""

LOSS = """
import torch
from torch import nn
def term(images, targets):
    return (images - targets).abs().mean((1, 2, 3))
class Term(nn.Module):
    def forward(self, images, targets):
        return term(images, targets).mean()
made = nn.L1Loss()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.py").write_text(METRIC)
    Path("l.py").write_text(LOSS)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    images, targets = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return images, targets


@pytest.mark.parametrize(("name", "sign", "better"), [("score", 1, "lower"), ("Score", -1, "higher"),
                                                      ("made", -1, "higher")])
def test_a_metric_is_a_function_a_module_or_a_class_of_modules(name: str, sign: int, better: str) -> None:
    metric = outside_metrics.get(pinned_metrics(f"m.py:{name}"))
    metric.try_on(32)
    images, targets = pair()
    values = metric.make()(images, targets)
    expected = sign * F.l1_loss(images, targets, reduction="none").mean((1, 2, 3)).double()
    assert torch.allclose(values, expected)
    assert (values.dtype, metric.better, metric.logged_name) == (torch.float64, better, name)


@pytest.mark.parametrize("name", ["term", "Term", "made"])
def test_a_loss_is_added_with_its_weight(name: str) -> None:
    loss = outside_losses.get(pinned_loss(f"l.py:{name}"))
    loss.try_on(32)
    images, targets = pair()
    terms = ReconstructionLoss(0.5, 0.5, None, OwnTerm(loss.logged_name, 0.25, loss.make()))(images, targets)
    expected = 0.5 * F.mse_loss(images, targets) + 0.25 * F.l1_loss(images, targets)
    assert torch.allclose(terms.total, expected)
    assert torch.allclose(terms.values()[3], F.l1_loss(images, targets))


@pytest.mark.parametrize(("change", "said"), [
    (("score.higher_is_better = False", ""), r"does not say which direction is better\. .* score\.higher_is"),
    ((".mean((1, 2, 3))", ".mean()"), r"for 2 images it gives a scalar, and not a number for each image, \(2,\)"),
    ((".mean((1, 2, 3))", ".mean((2, 3))"), r"for 2 images it gives \(2, 3\), and not a number for each"),
    ((".mean((1, 2, 3))", ".mean((1, 2, 3)).log().log()"), r"it gives \[nan, nan\], and scores are finite"),
    ((".mean((1, 2, 3))", ".mean((1, 2, 3)).tolist()"), "gives an object of type list, and not a tensor"),
    ((".mean((1, 2, 3))", ".flatten(1).mean(1) - images.mean()"), "scores an image as .* beside another one and as"),
    ((".mean((1, 2, 3))", ".mean((1, 2, 3)) * images.clone().uniform_().mean()"), "differently each time"),
    ((".mean((1, 2, 3))", ".men()"), r"m\.py:4: AttributeError: "),
    ((".abs()", ".view(7, 7)"), r"m\.py:4: RuntimeError: "),
    (("(images, targets):", "(images):"), r"it is called with \(images, targets\), and takes \(images\): "),
    (("def score", "def skore"), r"m\.py has no metric 'score'\. Known: .*Did you mean 'skore'"),
    (("from torch", "from torhc"), r"m\.py:2: the module 'torhc' is not installed here"),
])
def test_what_is_wrong_in_a_metric_is_told(change: tuple[str, str], said: str) -> None:
    Path("m.py").write_text(METRIC.replace(*change))
    with pytest.raises(RequestError, match=said) as caught:
        outside_metrics.get(pinned_metrics("m.py:score")).try_on(32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "said"), [
    ((".mean((1, 2, 3))", ".mean((2, 3))"), r"for 2 images it gives \(2, 3\), and not their mean, a scalar, or a num"),
    ((".mean((1, 2, 3))", ".sum()"), "for two images it gives .* a loss is the mean over the images"),
    ((".mean((1, 2, 3))", ".detach().mean()"), "it has no gradient by the images, which are its first argument"),
    ((".mean((1, 2, 3))", ".mean() * 0 + (images - images).abs().sqrt().mean()"), "its gradient is not finite"),
    ((".mean((1, 2, 3))", ".mean() / 0"), "for random images it gives inf, and a loss is finite"),
    ((".mean((1, 2, 3))", ".mean() * torch.rand(())"), "gives another value for the same images each time"),
    (("def term(images, targets)", "def term(images, targets, more)"), "missing a required argument: 'more'"),
])
def test_what_is_wrong_in_a_loss_is_told(change: tuple[str, str], said: str) -> None:
    Path("l.py").write_text(LOSS.replace(*change))
    with pytest.raises(RequestError, match=said):
        outside_losses.get(pinned_loss("l.py:term")).try_on(32)


def test_names_that_are_taken_are_refused() -> None:
    Path("n.py").write_text("def SSIM(a, b): ...\ndef loss(a, b): ...\ndef a_std(a, b): ...\ndef score(a, b): ...\n")
    for name in ("SSIM", "loss", "a_std"):
        with pytest.raises(RequestError, match=f"its values are logged under its name, and '{name}' .*: rename it"):
            pinned_metrics(f"n.py:{name}")
    with pytest.raises(RequestError, match=r"n\.py:score@.* would both be logged as test/score: rename one of them"):
        pinned_metrics("m.py:score, n.py:score")
    assert pinned_metrics("m.py:score,m.py:Score,m.py:score").count("@") == 2


def test_a_spec_has_a_list_of_metrics_in_its_base_and_none_in_a_block() -> None:
    Path("s.yaml").write_text("study: s\nbase: {metrics: ['m.py:score', 'm.py:Score']}\ngrid: [{seed: [0]}]\n")
    for sets in ([], ["metrics=['m.py:score', 'm.py:Score']"]):
        config, = load_spec("s.yaml", sets).configs
        assert [name.partition("@")[0] for name in config.metrics.split(",")] == ["m.py:Score", "m.py:score"]
    Path("s.yaml").write_text("study: s\ngrid: [{metrics: ['m.py:score', 'm.py:Score']}]\n")
    with pytest.raises(RequestError, match="metrics belongs in base: all runs of a study have the same metrics"):
        load_spec("s.yaml")
