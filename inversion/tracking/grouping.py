"""Parameters by which MLflow's UI can group runs: network, cut and modifiers, which ``encoder`` has in one text.

Grouping and parallel coordinates need each in a parameter of its own, with equal texts for what is equal. ``encoder``
and ``layer`` of a run that ``mlflow run`` has created are as they were typed, which MLflow does not allow to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from inversion.models.encoders.catalog import ENSEMBLE, EncoderCut, parse_encoders

GROUPING = ("network", "network_layer", "modifiers")
"""The parameters that every run has for this."""

NONE = "none"


def grouping_params(encoder: str) -> dict[str, str]:
    """Network, layer and modifiers of a checked ``encoder``.

    Several encoders are joined in their order: ``vgg16+resnet34``, ``block1+layer1``. Layers of one encoder have one
    network, and the four of ``ensemble`` are one of this name. ``modifiers`` is ``pool=2/bits=4``, ``none``, or
    ``pool=2+none`` if encoders differ in it.
    """
    cuts = parse_encoders(encoder)
    modifiers = ["/".join(map(str, cut.modifiers)) or NONE for cut in cuts]
    networks = [cut.encoder for cut in cuts]
    return {"network": "ensemble" if _plain(cuts) == ENSEMBLE else "+".join(_same_once(networks)),
            "network_layer": "+".join(cut.layer for cut in cuts),
            "modifiers": "+".join(_same_once(modifiers))}


def with_grouping(params: Mapping[str, object], known: Mapping[str, str]) -> dict[str, object]:
    """A run's parameters as they are logged to MLflow.

    ``encoder`` and ``layer`` are the network and its layer, unless the run has another ``encoder`` already (``known``):
    as typed under ``mlflow run``, or as logged by an earlier version. ``config.json`` has them as resolved in any case.
    """
    groups = grouping_params(str(params["encoder"]))
    if known.get("encoder", groups["network"]) != groups["network"]:
        return {**params, **groups}
    return {**params, "encoder": groups["network"], "layer": groups["network_layer"], **groups}


def _same_once(texts: list[str]) -> list[str]:
    return texts[:1] if len(set(texts)) == 1 else texts


def _plain(cuts: tuple[EncoderCut, ...]) -> tuple[EncoderCut, ...]:
    return tuple(replace(cut, modifiers=()) for cut in cuts)
