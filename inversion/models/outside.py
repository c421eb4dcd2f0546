"""Parts from outside this package: any class or function that makes an ``nn.Module``."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import create_model
from pydantic.errors import PydanticUserError
from torch import Tensor, nn

from inversion.errors import RequestError
from inversion.models import part_code, part_files
from inversion.models.options import Options
from inversion.text import reason


class Factory:
    """A class or function from outside that makes an ``nn.Module``.

    Args:
        kind: ``"decoder"``.
        name: the full name of the part.
        made: the class or function.
        arguments: the arguments that it is called with, by their names in messages, with an example of each; its
            further parameters need defaults.

    Raises:
        RequestError: it is no such class or function, or takes other arguments.
    """

    def __init__(self, kind: str, name: str, made: Any, arguments: Mapping[str, object]) -> None:
        self.kind = kind
        self.name = name
        self.__doc__ = getattr(made, "__doc__", None)
        if inspect.isclass(made) and not issubclass(made, nn.Module):
            raise RequestError(f"{kind} {name}: the class is not a torch.nn.Module")
        if not callable(made):
            raise RequestError(f"{kind} {name}: it is of type {type(made).__name__}, and not a class or function")
        self._made: Callable[..., Any] = made
        try:
            signature = inspect.signature(made)
            self._hints = typing.get_type_hints(made.__init__ if inspect.isclass(made) else made)
        except Exception as error:  # an annotation can be anything
            raise failure(kind, name, error) from error
        try:
            signature.bind(*arguments.values())
        except TypeError as error:
            raise RequestError(f"{kind} {name}: it is called with ({', '.join(arguments)}), and takes {signature}: "
                               f"{error}") from error
        self.further = {parameter.name: parameter for parameter in list(signature.parameters.values())[len(arguments):]
                        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)}
        """The further parameters, which have defaults."""

    def make(self, *arguments: object, **further: object) -> nn.Module:
        """Builds the module.

        Raises:
            RequestError: the code fails, or does not make an ``nn.Module``.
        """
        return build_with(self.kind, self.name, self._made, *arguments, **further)

    def options(self) -> type[Options]:
        """The further parameters as options, with their defaults and annotations.

        Raises:
            RequestError: they cannot be options.
        """
        fields: dict[str, Any] = {name: (self._hints.get(name, _type_of(parameter.default)), parameter.default)
                                  for name, parameter in self.further.items()}
        try:
            return create_model(getattr(self._made, "__name__", self.kind.title()), __base__=Options, **fields)
        except (PydanticUserError, NameError, TypeError) as error:
            raise RequestError(f"{self.kind} {self.name}: its parameters cannot be options: {reason(error)}"
                               ) from error


class OutsidePart:
    """What ``build_model`` needs of a decoder or fusion, for a class or function from outside.

    One that derives from the base class of ours is built as ours are. Any other is called as ``made(*arguments,
    **options)``; its options are its further parameters.

    Args:
        kind, name, made, arguments: as for ``Factory``.
        base: the base class of ours.
    """

    def __init__(self, kind: str, name: str, made: Any, arguments: Mapping[str, object], base: Any) -> None:
        self.kind = kind
        self.name = name
        self.__doc__ = getattr(made, "__doc__", None)
        self._derived: Any = made if _derives(made, base) else None
        if self._derived:
            self.OptionsType: type[Options] = self._derived.OptionsType
        else:
            self._factory = Factory(kind, name, made, arguments)
            self.OptionsType = self._factory.options()

    def build(self, *arguments: Any) -> nn.Module:
        """Builds the part; the last argument is its options.

        Raises:
            RequestError: its code fails, or does not make an ``nn.Module``.
        """
        if self._derived:
            return build_with(self.kind, self.name, self._derived.build, *arguments)
        *given, options = arguments
        return self._factory.make(*given, **dict(options))


def build_with(kind: str, name: str, made: Callable[..., Any], *arguments: object, **further: object) -> nn.Module:
    """Calls what makes a module.

    Raises:
        RequestError: its code fails, or does not make an ``nn.Module``.
    """
    try:
        built = made(*arguments, **further)
    except RequestError:
        raise
    except Exception as error:
        raise failure(kind, name, error) from error
    if not isinstance(built, nn.Module):
        raise RequestError(f"{kind} {name}: it makes an object of type {type(built).__name__}, and not a "
                           "torch.nn.Module")
    return built


def failure(kind: str, name: str, error: Exception) -> RequestError:
    """The error for an exception that a part's code raised, with the line in the file."""
    place = part_code.where_in(name.partition(":")[0], error) if part_files.is_reference(name) else name
    return RequestError(f"{kind} {name}: {place}: {type(error).__name__}: {reason(error)}")


def require_map(values: object, what: str, batch: int) -> Tensor:
    """Returns the values if they are a finite feature map ``(B, C, h, w)``.

    Raises:
        RequestError: the values are not such a map; the message begins with ``what`` ("encoder x: for … it").
    """
    if not isinstance(values, Tensor):
        raise RequestError(f"{what} gives an object of type {type(values).__name__}, and not a map (B, C, h, w)")
    if values.ndim != 4 or len(values) != batch or not values.numel():
        raise RequestError(f"{what} gives {tuple(values.shape)}, and not a map (B, C, h, w) of B = {batch}")
    if not values.is_floating_point():
        raise RequestError(f"{what} gives {str(values.dtype).removeprefix('torch.')}, and not floating-point numbers")
    if not values.isfinite().all():
        raise RequestError(f"{what} gives values that are not finite")
    return values


def _derives(made: Any, base: Any) -> bool:
    return inspect.isclass(made) and issubclass(made, base)


def _type_of(default: Any) -> Any:
    return Any if default is None else type(default)
