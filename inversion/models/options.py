"""Options of decoders and fusions, declared as pydantic models and checked without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inversion.errors import RequestError, UnknownNameError
from inversion.registry import Registry

P = TypeVar("P")


class Options(BaseModel):
    """Base class of a part's options, itself without any. Add one field with a docstring per option."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


NO_OPTIONS = Options()


class DesignOptions(Options):
    """Options of a part that the published study has in another form."""

    design: Literal["default", "published"] = Field("default")
    """published: the network of the published study's released code, which has no other options"""

    @model_validator(mode="after")
    def _published_has_no_other_options(self) -> Self:
        if self.design == "published" and (others := sorted(self.model_fields_set - {"design"})):
            raise ValueError(f"design=published has no other options, so {', '.join(others)} cannot be set")
        return self


def design_of(kind: type[P], published: type[P] | None, options: Options) -> type[P]:
    """The class to build: ``published`` if the options ask for it, else ``kind``."""
    is_published = isinstance(options, DesignOptions) and options.design == "published"
    return published if is_published and published else kind


def find_options_type(registry: Registry[Any], declared: Mapping[str, type[Options]], name: str) -> type[Options]:
    """The class of a part's options; the part's file is imported only if it declares them itself.

    Raises:
        UnknownNameError: there is no such part.
    """
    registry.check(name)
    if name in declared:
        return declared[name]
    found: type[Options] = registry.get(name).OptionsType if registry.mentions(name, "OptionsType") else Options
    return found


def parse_part_options(kind: str, name: str, declared: type[Options], values: Mapping[str, str]) -> Options:
    """Parses the options of a part; options that are not given have their defaults.

    ``kind`` is ``decoder`` or ``fusion``, ``declared`` the class of the options; ``values`` maps their names to texts.

    Raises:
        UnknownNameError: the part does not have this option.
        RequestError: a value of the wrong type or out of range.
    """
    known = declared.model_fields
    for option in values:
        if option not in known:
            if not known:
                raise RequestError(f"{kind}_options: {kind} {name!r} has no options, so {option!r} cannot be set")
            raise UnknownNameError(f"{kind}_options: {kind} {name!r} has no option", option, known)
    try:
        return declared.model_validate(dict(values))
    except ValidationError as error:
        detail = error.errors()[0]
        message = detail["msg"].removeprefix("Value error, ")
        if not detail["loc"]:  # a combination of options
            raise RequestError(f"{kind}_options of {kind} {name!r}: {message}") from None
        option = str(detail["loc"][0])
        raise RequestError(
            f"{kind}_options: {option}={detail['input']!s} of {kind} {name!r}: {message}"
            + (f". ({known[option].description})" if known[option].description else "")
        ) from None
