"""What the documentation shows works as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import torch

from inversion.decoders import decoders
from inversion.decoders._base import parse_decoder_options
from inversion.features import FeatureShape

ROOT = Path(__file__).parents[1]


def test_the_decoder_in_the_guide_is_one_file_and_one_decorator() -> None:
    text = (ROOT / "docs" / "extending.md").read_text()
    source = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0].replace('register("bilinear")',
                                                                                   'register("guide_bilinear")')
    module = ModuleType("guide_bilinear")
    sys.modules[module.__name__] = module  # outside the package, as somebody else's code would be
    try:
        exec(compile(source, "extending.md", "exec"), module.__dict__)
        decoder = decoders.get("guide_bilinear")
        options = parse_decoder_options("guide_bilinear", decoder, {"kernel": "3"})
        images = decoder(FeatureShape(16, 5, 5), 64, options)(torch.randn(2, 16, 5, 5))
        assert images.shape == (2, 3, 64, 64)
        assert 0 <= images.min() <= images.max() <= 1
    finally:
        del sys.modules[module.__name__]
        decoders.forget("guide_bilinear")


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]
    assert len(documents) > 8
    for document in documents:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
