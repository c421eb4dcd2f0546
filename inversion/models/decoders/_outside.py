"""Decoders from outside this package: any class or function that makes an ``nn.Module``."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from pydantic import create_model
from pydantic.errors import PydanticUserError
from torch import nn

from inversion.errors import RequestError
from inversion.models import FeatureShape, part_files
from inversion.models.decoders._base import Decoder
from inversion.models.options import Options
from inversion.text import reason


class OutsideDecoder:
    """What ``build_model`` needs of a decoder, for a class or function from outside.

    One that derives from ``Decoder`` is built as ours are. Any other is called as ``made(features, image_size,
    **options)``; its options are its further parameters, with their defaults and annotations.
    """

    def __init__(self, name: str, made: Any) -> None:
        self.name = name
        self.__doc__ = getattr(made, "__doc__", None)
        self.kind: type[Decoder] | None = None
        if inspect.isclass(made) and not issubclass(made, nn.Module):
            raise RequestError(f"decoder {name}: the class is not a torch.nn.Module")
        if not callable(made):
            raise RequestError(f"decoder {name}: it is of type {type(made).__name__}, and not a class or function")
        if inspect.isclass(made) and issubclass(made, Decoder):
            self.kind = made
            self.OptionsType = made.OptionsType
        else:
            self.made: Callable[..., Any] = made
            self.OptionsType = _options_of(name, made)

    def build(self, features: FeatureShape, image_size: int, options: Options) -> nn.Module:
        """Builds the decoder.

        Raises:
            RequestError: its code fails, or does not make an ``nn.Module``.
        """
        try:
            built = (self.kind.build(features, image_size, options) if self.kind
                     else self.made(features, image_size, **dict(options)))
        except RequestError:
            raise
        except Exception as error:
            raise failure(self.name, error) from error
        if not isinstance(built, nn.Module):
            raise RequestError(f"decoder {self.name}: it makes an object of type {type(built).__name__}, and not a "
                               "torch.nn.Module")
        return built


def failure(name: str, error: Exception) -> RequestError:
    """The error for an exception that a decoder's code raised, with the line in the file."""
    place = part_files.where_in(name.partition(":")[0], error) if part_files.is_reference(name) else name
    return RequestError(f"decoder {name}: {place}: {type(error).__name__}: {reason(error)}")


def _options_of(name: str, made: Callable[..., Any]) -> type[Options]:
    """The parameters after the first two, as options."""
    try:
        signature = inspect.signature(made)
        hints = typing.get_type_hints(made.__init__ if inspect.isclass(made) else made)
    except Exception as error:  # an annotation can be anything
        raise failure(name, error) from error
    called = f"decoder {name}: it is called with (features, image_size), and takes {signature}"
    try:
        signature.bind(FeatureShape(1, 1, 1), 1)
    except TypeError as error:
        raise RequestError(f"{called}: {error}") from error
    further = [parameter for parameter in list(signature.parameters.values())[2:]
               if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]
    fields: dict[str, Any] = {parameter.name: (hints.get(parameter.name, _type_of(parameter.default)),
                                               parameter.default) for parameter in further}
    try:
        return create_model(getattr(made, "__name__", "Decoder"), __base__=Options, **fields)
    except (PydanticUserError, NameError, TypeError) as error:
        raise RequestError(f"decoder {name}: its parameters cannot be options: {reason(error)}") from error


def _type_of(default: Any) -> Any:
    return Any if default is None else type(default)
