"""The parameters of a run: names, types, ranges and defaults, all defined in ``RunConfig``.

The options of ``inversion train``, the parameters in MLproject and spec files, and MLflow's params use these names.
Only types and ranges are checked here; ``config.resolve`` checks that encoders and files exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from inversion.config.parts import MODEL, OUTSIDE, parts_in
from inversion.errors import RequestError, UnknownNameError
from inversion.synonyms import PARAMETERS, unknown_name

Protocol = Literal["image", "published"]
Precision = Literal["auto", "fp32", "bf16"]

MOST, LARGEST, LEAST = 1_000_000_000, 1e30, 1e-30
"""Upper limits of counts (images, epochs, steps), so that they fit all libraries' integers, and of rates and weights,
so that they fit single precision; LEAST is the lower limit of those above 0, because their products with gradients
would be 0 in single precision.

Messages mention them only when a value exceeds them."""


def _is_not_tiny(value: float) -> float:
    if 0 < value < LEAST:
        raise PydanticCustomError(TOO_SMALL, "too small for single precision")
    return value


TOO_SMALL = "too_small"
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False), AfterValidator(_is_not_tiny)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False), AfterValidator(_is_not_tiny)]
MOST_THREADS = 1024
Count = Annotated[int, Field(ge=1, le=MOST)]
Limit = Annotated[int, Field(ge=0, le=MOST)]


ADDED: Mapping[int, Mapping[str, Any]] = {
    3: {"fusion_options": "auto", "vgg_weights": "off"},
    4: {"schedule": "plateau", "clip_norm": 0.0},
    5: {"crops": "random"},
    6: {"metrics": "none", "loss": "none", "loss_weight": 1.0},
}
"""For each version of the configuration document after the first, its new parameters with the values that describe
earlier runs. At these values they are not part of a digest, so that the digests of earlier runs stay."""


class RunConfig(BaseModel):
    """One combination of encoder, layer, decoder and training settings, as requested (``auto`` is not resolved)."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    encoder: str = Field("vgg16", description="vgg16, vgg16:block1, vgg16:block1+block3, vgg16+resnet34, ensemble, "
                         "timm/NAME:LAYER, hf-hub:USER/REPO:LAYER, or my_encoder.py:NAME:LAYER, each also with "
                         "modifiers, as vgg16:block1/pool=2/bits=4")
    layer: str = Field("auto", description="layer of a single encoder; auto: its first")
    decoder: str = Field("transposed_conv", description="decoder that rebuilds the image")
    fusion: str = Field("auto", description="how several encoders are fused; auto: weighted for several")
    data: str = Field("auto", description="div2k, sample, a folder, WebDataset shards (shards/*.tar), or hf:NAME; "
                      "auto: DIV2K when on disk, else sample")
    data_dir: str = Field("auto", description="folder of downloaded data and caches; auto: the user's cache folder")
    weights: str = Field("auto", description="imagenet or pretrained (the same: the encoder's own weights), "
                         "random, random:SEED, a state-dict file, a folder of them, or vgg16=FILE,resnet34=FILE")
    lpips_weights: str = Field("auto", description="AlexNet trunk of LPIPS: imagenet, a file, or off; "
                               "auto: off if unavailable")
    vgg_weights: str = Field("auto", description="VGG16 of the scores LPIPS-VGG and DISTS: imagenet, a file, or off; "
                             "auto: if at hand and soon done")
    metrics: str = Field("none", description="further scores of the test images, of your own: my_metric.py:NAME, or "
                         "several with commas")
    protocol: Protocol = Field("image", description="image: loss and scores in [0, 1]; published: against the "
                               "ImageNet-normalised image, to reproduce the published tables")
    image_size: int = Field(224, ge=32, le=1024, multiple_of=32, description="side of the square crops, in pixels")
    epochs: Count = Field(30, description="epochs at most")
    batch_size: Count = Field(4, description="images per optimiser step")
    crops: str = Field("random", description="random: crops drawn anew in every epoch; fixed:K, K from 1 to 9999: "
                       "K crops of each photograph, whose features are computed once and kept on disk")
    lr: Positive = Field(1e-4, description="Adam's learning rate")
    schedule: Literal["plateau", "cosine"] = Field(
        "plateau", description="plateau: reduce the rate when val/loss stops falling; cosine: from lr to min_lr over "
        "all epochs")
    lr_patience: Limit = Field(5, description="epochs without a better val/loss before the rate is reduced "
                               "(schedule=plateau)")
    lr_factor: float = Field(0.5, gt=0, lt=1, description="factor of that reduction")
    min_lr: NonNegative = Field(1e-6, description="floor of the learning rate")
    clip_norm: NonNegative = Field(0.0, description="largest L2 norm of the gradient; a longer one is scaled down; "
                                   "0: off")
    patience: Count = Field(15, description="epochs without a better val/loss before training stops")
    mse_weight: NonNegative = Field(0.5, description="weight of the mean squared error in the loss")
    lpips_weight: NonNegative = Field(0.5, description="weight of LPIPS in the loss")
    loss: str = Field("none", description="a further term of the loss, of your own: my_loss.py:NAME")
    loss_weight: NonNegative = Field(1.0, description="weight of that term")
    train_limit: Limit = Field(0, description="use only the first N training images; 0: all")
    val_limit: Limit = Field(0, description="use only the first N validation images; 0: all")
    test_limit: Limit = Field(0, description="use only the first N test images; 0: all")
    decoder_options: str = Field("auto", description="the decoder's own options, as depth=4,heads=4")
    fusion_options: str = Field("auto", description="the fusion's own options, as design=published")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of initialisation, order, crops and flips")
    device: str = Field("auto", description="cpu, cuda or cuda:N, N from 0 to 9999; auto: CUDA when there is one")
    precision: Precision = Field("auto", description="auto: bf16 autocast on CUDA from compute capability 8.0 on and "
                                 "on CPUs with AVX512-BF16, else fp32")
    threads: int = Field(0, ge=0, le=MOST_THREADS, description="CPU threads of PyTorch; 0: one for each "
                         "core that the process may use")
    strict: bool = Field(False, description="refuse every fallback instead of naming it")

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: Any) -> Any:
        """An empty text means the default: MLflow passes '' for an unset text."""
        if isinstance(value, str) and not value.strip():
            return cls.model_fields[info.field_name].default
        return value

    @field_validator("metrics", mode="before")
    @classmethod
    def _metrics_may_be_a_list(cls, value: Any) -> Any:
        """From Python, several metrics are a list."""
        return ",".join(map(str, value)) or "none" if isinstance(value, list | tuple) else value

    @field_validator("device")
    @classmethod
    def _device_has_a_known_form(cls, value: str) -> str:
        if re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]{0,3}))?", value):
            return value
        raise ValueError("auto, cpu, cuda or cuda:N, N up to 9999")

    @field_validator("weights")
    @classmethod
    def _pretrained_has_one_spelling(cls, value: str) -> str:
        return "imagenet" if value == "pretrained" else value

    @field_validator("crops")
    @classmethod
    def _crops_have_a_known_form(cls, value: str) -> str:
        if re.fullmatch(r"random|fixed:[1-9][0-9]{0,3}", value):
            return value
        raise ValueError("random, or fixed:1 to fixed:9999")

    @property
    def fixed_crops(self) -> int:
        """Fixed crops of each training photograph; 0 if they are random."""
        return int(self.crops.partition(":")[2] or 0)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts that can be from outside this package."""
        return parts_in({name: getattr(self, name) for name in OUTSIDE})

    @property
    def model_parts(self) -> tuple[str, ...]:
        """Those that are needed to use the trained model."""
        return parts_in({name: getattr(self, name) for name in MODEL})

    def objective_is_empty(self) -> bool:
        """Whether all loss weights are 0."""
        return self.mse_weight == 0 and self.lpips_weight == 0 and (self.loss == "none" or self.loss_weight == 0)


def unknown_parameter(name: str, known: Iterable[str] = tuple(RunConfig.model_fields)) -> UnknownNameError:
    """The error for a parameter that is not among ``known``."""
    return unknown_name("unknown parameter", name, known, PARAMETERS)


def parse_config(values: Mapping[str, Any]) -> RunConfig:
    """Parses and checks a configuration from texts or typed values, as from a command line or a YAML file.

    Raises:
        UnknownNameError: the parameter does not exist.
        RequestError: a value of the wrong type or out of range; the message names the allowed values.
    """
    config = _validate(values)
    if config.objective_is_empty():
        raise RequestError("mse_weight and lpips_weight are both 0: there is nothing to train for. Set one above 0.")
    if config.min_lr > config.lr:
        raise RequestError(f"min_lr {config.min_lr:g} is above lr {config.lr:g}: the rate can only decrease.")
    return config


def parse_value(name: str, value: Any) -> Any:
    """Parses and checks the value of one parameter, independently of the others.

    Raises:
        UnknownNameError: the parameter does not exist.
        RequestError: a value of the wrong type or out of range.
    """
    return getattr(_validate({name: value}), name)


def allowed_values(name: str) -> str:
    """The allowed values of a parameter, in words: ``image, published`` or ``a whole number, 1 or more``."""
    return allowed_in(RunConfig.model_fields[name])


def allowed_in(field: FieldInfo) -> str:
    """The allowed values of a model's field, in words."""
    if choices := get_args(field.annotation):
        return ", ".join(str(choice) for choice in choices)
    if field.annotation is bool:
        return "true or false"
    if field.annotation is str:
        return field.description or "text"
    words = ["a whole number" if field.annotation is int else "a number"]
    phrases = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}",
               "multiple_of": "a multiple of {}"}
    for constraint in field.metadata:
        words += [phrase.format(getattr(constraint, key)) for key, phrase in phrases.items()
                  if getattr(constraint, key, None) not in (None, MOST, LARGEST)]
    return ", ".join(words)


def parse_options(text: str, parameter: str = "decoder_options") -> dict[str, str]:
    """Parses ``depth=4,heads=4`` to a dictionary, which is empty for ``auto``; ``parameter`` is named in messages.

    Raises:
        RequestError: not of the form ``name=value,name=value``, or a repeated name.
    """
    options: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(",") if text != "auto")):
        name, separator, value = (piece.strip() for piece in item.partition("="))
        if not (name and separator and value):
            raise RequestError(f"{parameter}: {item!r} is not of the form name=value (as in depth=4,heads=4)")
        if name in options:
            raise RequestError(f"{parameter}: {name} is given twice")
        options[name] = value
    return options


def format_options(options: Mapping[str, str]) -> str:
    """Options as one text, in alphabetical order; ``auto`` if there are none."""
    return ",".join(f"{name}={value}" for name, value in sorted(options.items())) or "auto"


def _admits_zero(field: FieldInfo) -> bool:
    return any(getattr(constraint, "ge", None) == 0 for constraint in field.metadata)


def _validate(values: Mapping[str, Any]) -> RunConfig:
    for name in values:
        if name not in RunConfig.model_fields:
            raise unknown_parameter(name)
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        raise RequestError("; ".join(explain(detail, RunConfig) for detail in error.errors())) from None


def explain(detail: Mapping[str, Any], model: type[BaseModel]) -> str:
    """The message for an invalid value (``ErrorDetails`` of pydantic): the value and the allowed values."""
    name, given = str(detail["loc"][0]), detail["input"]
    if detail["type"] == "string_unicode":
        return f"{name}: {str(given)!r} is not UTF-8, and MLflow keeps nothing else: rename it, or link to it."
    field = model.model_fields[name]
    limit = detail["ctx"]["le"] if detail["type"] == "less_than_equal" else None
    beyond = f", at most {limit}" if limit in (MOST, LARGEST) else ""
    if detail["type"] == TOO_SMALL:  # single precision would turn it into 0
        beyond = f", and {LEAST:g} or more" + (" unless it is 0" if _admits_zero(field) else "")
    message = f"{name}: {str(given)!r} is not allowed. Allowed: {allowed_in(field)}{beyond}."
    choices = get_args(field.annotation)
    if choices and isinstance(given, str):
        import difflib

        if nearest := difflib.get_close_matches(given, choices, n=1):
            message += f" Did you mean {nearest[0]!r}?"
    return message
