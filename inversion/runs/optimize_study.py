"""Inversion by optimisation through every encoder layer of a study, at several numbers of steps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from inversion.config.document import DocumentError
from inversion.config.optimize_config import OptimizeConfig, parse_optimize_config
from inversion.errors import RequestError
from inversion.tracking.connection import Connection
from inversion.tracking.search import KIND, document_of, search, tagged
from inversion.tracking.study import DIGEST, STUDY, children

INHERITED = ("data", "data_dir", "weights", "lpips_weights", "vgg_weights", "protocol", "image_size", "test_limit",
             "device", "threads")
"""Parameters of a study's runs that decide on the images, the features and the scores of their inversion."""


def requests_of_study(connection: Connection, study: str, given: Mapping[str, Any], steps: Sequence[str]
                      ) -> list[OptimizeConfig]:
    """A request for each encoder layer of the study's runs and each number of steps; combined encoders are left out.

    Images, weights, protocol, image size and device are those of the study's runs, unless they are ``given``. Where
    runs of one layer differ in these, there is a request for each.

    Raises:
        RequestError: the study has no run of a single encoder, or ``given`` has an invalid parameter.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run in children(connection, study):
        try:
            parameters = document_of(run)["parameters"]
        except DocumentError:
            continue
        if "+" in parameters["encoder"]:
            continue
        values = {"encoder": parameters["encoder"], **{name: parameters[name] for name in INHERITED}, **given}
        if not os.path.isdir(str(values["data_dir"])):  # of another machine
            del values["data_dir"]
        found.setdefault(tuple(sorted((name, str(value)) for name, value in values.items())), values)
    if not found:
        raise RequestError(f"study {study!r} has no run of a single encoder yet, whose layer could be inverted")
    requests = sorted(found.values(), key=lambda values: str(values["encoder"]))
    return [parse_optimize_config({**values, "steps": count}) for values in requests for count in steps]


def is_done(connection: Connection, study: str, digest: str) -> bool:
    """Whether the study has a finished inversion of this digest."""
    condition = f"{tagged(KIND, 'optimize')} and {tagged(STUDY, study)} and {tagged(DIGEST, digest)}"
    return any(run.info.status == "FINISHED" for run in search(connection, condition))
