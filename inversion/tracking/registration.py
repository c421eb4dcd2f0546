"""Registering the model of a run in MLflow's model registry, under an alias; names are checked without MLflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from inversion.errors import RequestError

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

MODEL = "model"
"""The name under which a run logs its model."""

LONGEST = 255


class RegisteredName(NamedTuple):
    """The name of a registered model, and an alias for its version: ``models:/NAME@ALIAS``."""

    name: str
    alias: str

    @property
    def uri(self) -> str:
        return f"models:/{self.name}@{self.alias}"


def parse_registered_name(text: str, option: str = "--register") -> RegisteredName:
    """Parses ``NAME@ALIAS``.

    Raises:
        RequestError: MLflow's registry does not allow the name or the alias.
    """
    name, at, alias = text.strip().rpartition("@")
    if not at:
        _refuse(option, text, f"has no alias. It is written NAME@ALIAS, as in {text.strip() or 'decoder'}@champion")
    if not name.strip() or name != name.strip() or len(name) > LONGEST or re.search(r"[/:@'\"\\%]", name) \
            or not name.isprintable() or name == "." or name.startswith(".."):
        _refuse(option, text, f"names no model: a name has 1 to {LONGEST} characters, none of / : @ ' \" \\ %, and "
                "does not begin with two points")
    if not re.fullmatch(r"[\w-]+", alias) or len(alias) > LONGEST:
        _refuse(option, text, f"has a wrong alias: allowed are 1 to {LONGEST} letters, digits, _ and -")
    if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
        _refuse(option, text, "has an alias that MLflow reserves: latest, and v with a number")
    return RegisteredName(name, alias)


def register_model(client: MlflowClient, run: Run, wanted: RegisteredName) -> int:
    """Registers a run's model, unless a version of that name is it already, and moves the alias there.

    Returns:
        The number of the version.

    Raises:
        MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
    """
    run_id = run.info.run_id
    versions = [version for version in client.search_model_versions(f"name = '{wanted.name}'")
                if version.run_id == run_id]
    version = max((int(version.version) for version in versions), default=None)
    if version is None:
        version = _add_version(client, run, wanted.name)
    client.set_registered_model_alias(wanted.name, wanted.alias, str(version))
    return version


def _add_version(client: MlflowClient, run: Run, name: str) -> int:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    logged = run.outputs.model_outputs if run.outputs else []
    model_id = logged[-1].model_id if logged else None  # runs of old versions of MLflow have an artifact only
    source = f"models:/{model_id}" if model_id else f"{run.info.artifact_uri}/{MODEL}"
    return int(client.create_model_version(name, source, run.info.run_id, model_id=model_id).version)


def _refuse(option: str, text: str, why: str) -> NoReturn:
    raise RequestError(f"{option} {text!r} {why}.")
