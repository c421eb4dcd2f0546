"""The parameters by which MLflow's UI groups runs: one for the network, one for the layer, one for the modifiers."""

from __future__ import annotations

import pytest

from inversion.tracking.grouping import grouping_params, with_grouping

FOUR = "resnet34:layer1+vgg16:block1+vit_small:block1+pvt_v2_b2:stage1"


@pytest.mark.parametrize(("encoder", "network", "layer", "modifiers"), [
    ("vgg16:block1", "vgg16", "block1", "none"),
    ("vgg16:block3/pool=2/bits=4", "vgg16", "block3", "pool=2/bits=4"),
    ("vgg16:block1+resnet34:layer2", "vgg16+resnet34", "block1+layer2", "none"),
    ("vgg16:block1/pool=2+resnet34:layer2", "vgg16+resnet34", "block1+layer2", "pool=2+none"),
    ("vgg16:block1+vgg16:block3", "vgg16", "block1+block3", "none"),
    ("vgg16:block1+vgg16:block3+resnet34:layer2", "vgg16+vgg16+resnet34", "block1+block3+layer2", "none"),
    (FOUR, "ensemble", "layer1+block1+block1+stage1", "none"),
    (FOUR.replace("1+", "1/pool=2+") + "/pool=2", "ensemble", "layer1+block1+block1+stage1", "pool=2"),
])
def test_network_layer_and_modifiers_are_told_apart(encoder: str, network: str, layer: str, modifiers: str) -> None:
    assert grouping_params(encoder) == {"network": network, "network_layer": layer, "modifiers": modifiers}


@pytest.mark.parametrize(("known", "encoder", "layer"), [
    ({}, "vgg16", "block1"),
    ({"encoder": "vgg16", "layer": "block1", "network": "vgg16"}, "vgg16", "block1"),  # resumed
    ({"encoder": "vgg16", "layer": "auto"}, "vgg16", "block1"),  # mlflow run -P encoder=vgg16
    ({"encoder": "vgg16:block1/pool=2", "layer": "auto"}, "vgg16:block1/pool=2", "block1"),  # … encoder=vgg16:block1/…
    ({"encoder": "vgg16:block1/pool=2", "layer": "block1"}, "vgg16:block1/pool=2", "block1"),  # an earlier version's
])
def test_encoder_and_layer_are_what_a_run_that_has_them_already_cannot_change(
        known: dict[str, str], encoder: str, layer: str) -> None:
    logged = with_grouping({"encoder": "vgg16:block1/pool=2", "layer": "block1", "seed": 3}, known)
    assert logged == {"encoder": encoder, "layer": layer, "seed": 3, "network": "vgg16", "network_layer": "block1",
                      "modifiers": "pool=2"}
