"""Names for MLflow's model registry: what is refused here, and that MLflow takes the rest."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import (
    _validate_model_alias_name,
    _validate_model_alias_name_reserved,
    _validate_model_name,
)

from inversion.errors import RequestError
from inversion.tracking.registration import RegisteredName, parse_registered_name

REFUSED = ["a/b@champion", "a:b@champion", ".@champion", "..@champion", " @champion", "@champion", "a@latest", "a@V12",
           "a@b c", "a@", "a@ä!"]


def check_in_mlflow(name: str, alias: str) -> None:
    """Raises an MlflowException if MLflow does not allow the name or the alias."""
    _validate_model_name(name)
    _validate_model_alias_name(alias)
    _validate_model_alias_name_reserved(alias)


@pytest.mark.parametrize("text", ["decoder@champion", "my decoder-2.1@best_one", "dekodierer ä@x"])
def test_a_name_that_is_allowed_is_one_of_mlflows(text: str) -> None:
    name, alias = parse_registered_name(text)
    assert f"{name}@{alias}" == text
    check_in_mlflow(name, alias)


@pytest.mark.parametrize("text", REFUSED)
def test_what_mlflow_refuses_is_refused_before_anything_starts(text: str) -> None:
    with pytest.raises(MlflowException):
        check_in_mlflow(*text.split("@"))
    with pytest.raises(RequestError, match=r"^--register '"):
        parse_registered_name(text)


def test_a_name_without_an_alias_is_told_how_to_write_it() -> None:
    with pytest.raises(RequestError, match=r"has no alias\. It is written NAME@ALIAS, as in decoder@champion"):
        parse_registered_name("decoder")


def test_the_address_of_a_registered_model_is_the_one_that_mlflow_loads() -> None:
    assert RegisteredName("decoder", "champion").uri == "models:/decoder@champion"
