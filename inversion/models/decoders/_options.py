"""Options that decoders declare, checked without PyTorch where a decoder allows it.

A decoder's options may stand in its own file. Where they stand in ``_NAME_options.py`` beside it, as ``OptionsType``,
a typing error in them is told at once: the decoder itself imports PyTorch, which takes seconds.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from inversion.errors import RequestError, UnknownNameError
from inversion.models.decoders import decoders


class Options(BaseModel):
    """The options of a decoder that has none; decoders with options derive from it, a field each."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def options_type(name: str) -> type[Options]:
    """The options of the decoder called ``name``.

    Raises:
        UnknownNameError: there is none.
    """
    decoders.check(name)
    module = f"{decoders.package}._{name}_options"
    if importlib.util.find_spec(module):
        found: type[Options] = importlib.import_module(module).OptionsType
        return found
    return decoders.get(name).OptionsType if decoders.mentions(name, "OptionsType") else Options


def parse_values(name: str, declared: type[Options], values: Mapping[str, str]) -> Options:
    """The decoder's options from ``name=value`` texts; what is not given has its default.

    Raises:
        UnknownNameError: an option that this decoder does not have.
        RequestError: a value of the wrong type or out of range.
    """
    known = declared.model_fields
    for option in values:
        if option not in known:
            if not known:
                raise RequestError(f"decoder_options: decoder {name!r} has no options, so {option!r} cannot be set")
            raise UnknownNameError(f"decoder_options: decoder {name!r} has no option", option, known)
    try:
        return declared.model_validate(dict(values))
    except ValidationError as error:
        detail = error.errors()[0]
        message = detail["msg"].removeprefix("Value error, ")
        if not detail["loc"]:  # options that do not go together
            raise RequestError(f"decoder_options of decoder {name!r}: {message}") from None
        option = str(detail["loc"][0])
        raise RequestError(
            f"decoder_options: {option}={detail['input']!s} of decoder {name!r}: {message}. "
            f"({known[option].description})"
        ) from None
