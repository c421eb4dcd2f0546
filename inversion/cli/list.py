"""``inversion list``: encoders, layers, decoders and fusions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich import box

from inversion.cli.options import ParameterType
from inversion.console import Console, in_lines, make_console, make_table, styled
from inversion.errors import RequestError
from inversion.models import counts
from inversion.models.decoders import decoders, options_type
from inversion.models.encoders._notation import split_request
from inversion.models.encoders.catalog import ENCODERS, EncoderCut, encoder_spec, outside_encoders, parse_encoders
from inversion.models.encoders.specs import RANGE, SHORT_NAMES, TIMM_PREFIX
from inversion.models.fusion import fusions
from inversion.models.fusion import options_type as fusion_options_type
from inversion.models.modifiers import modifiers
from inversion.models.open_registry import OutsideParts
from inversion.models.options import Options
from inversion.models.part_files import is_reference
from inversion.registry import Registry

STUDY = frozenset({"vgg16:block1", "vgg16:block3", "resnet34:layer1", "resnet34:layer2", "vit_small:block1",
                   "vit_small:block3", "pvt_v2_b2:stage1", "pvt_v2_b2:stage2"})


@click.command("list")
@click.argument("name", required=False)
@click.option("--image-size", type=ParameterType("image_size"), default=224, metavar="SIZE", show_default=True,
              help="Image size for which to show shapes.")
@click.option("--recount", is_flag=True, help="Count parameters again, after changing a decoder or fusion.")
def command(name: str | None, image_size: int, recount: bool) -> None:
    """Show encoders, layers, feature shapes, decoders, fusions, modifiers and parameter counts.

    NAME shows only that one: an encoder (also timm/MODEL) with its layers, a layer with modifiers, a decoder or fusion
    with its options, any of these in a file of yours (FILE.py:NAME), or a modifier.

    \b
    Examples:
      inversion list
      inversion list attention
      inversion list timm/convnext_tiny
    """
    console = make_console()
    if recount:
        counts.write_counts()
    if name is None:
        show_encoders(console, list(ENCODERS), image_size)
        show_parts(console)
    elif is_reference(name):
        show_outside(console, name, image_size)
    elif name in decoders.names() + fusions.names():
        if name in decoders.names():
            show_part(console, "Decoder", decoders, name, options_type(name))
        if name in fusions.names():
            show_part(console, "Fusion", fusions, name, fusion_options_type(name))
    elif name in modifiers.names():
        show_modifier(console, name)
    elif modified := [cut for cut in parse_encoders(name) if cut.modifiers]:
        show_cuts(console, modified, image_size)
    elif (encoder := split_request(name).encoder) in outside_encoders:
        show_outside_encoder(console, encoder, image_size)
    else:  # an unknown name was reported with its nearest match
        show_encoders(console, [encoder_spec(encoder).name], image_size)


def show_encoders(console: Console, names: list[str], image_size: int) -> None:
    """Prints a row per layer: the shape of its features, and the number of parameters of each decoder."""
    known = counts.shipped_counts() if image_size == counts.IMAGE_SIZE else {}
    columns = decoders.ours() if any(str(row).startswith(tuple(names)) for row in known) else []
    title = f"Encoder layers at {image_size} px"
    if columns:
        title += ", and each decoder's trainable parameters (bold: study)"
    table = make_table(title=title, box=box.SIMPLE_HEAD, padding=0)
    for column in ("encoder:layer", "features", *(name.replace("_", "_\n") for name in columns)):
        table.add_column(in_lines(column.split("\n")), no_wrap=True,
                         justify="left" if table.columns[1:] == [] else "right")
    for name in names:
        for layer in encoder_spec(name).listed:
            cut = EncoderCut(name, layer.partition(RANGE)[0])  # the parts of a layer have the same shape in all layers
            shape = cut.shape(image_size)
            row = known.get(str(cut), {})
            table.add_row(f"{name}:{layer}", str(shape), *(_number(row.get(d)) for d in columns),
                          style="bold" if str(cut) in STUDY else "")
        table.add_section()
    for row_name, row in known.items():
        if row_name.startswith("ensemble+") and len(names) > 1:
            table.add_row(row_name, "256×112×112", *(_number(row.get(d)) for d in columns), style="bold")
    console.print(table)


def show_outside(console: Console, name: str, image_size: int) -> None:
    """Prints the encoder, fusion or decoder of a name in a file: by the arguments that it takes."""
    encoder, layer, texts = split_request(name)
    if layer is not None or texts:
        show_cuts(console, parse_encoders(name), image_size)
        return
    if _fits(outside_encoders, encoder):
        show_outside_encoder(console, encoder, image_size)
    elif _fits(fusions.outside, name):
        show_part(console, "Fusion", fusions, name, fusion_options_type(name))
    else:
        show_part(console, "Decoder", decoders, name, options_type(name))


def _fits(parts: OutsideParts[Any], name: str) -> bool:
    """Whether what has this name in a file can be a part of this kind, by the arguments that it takes."""
    try:
        parts.get(name)
    except RequestError:  # it is of another kind, or broken: the last kind that is tried tells
        return False
    return True


def show_outside_encoder(console: Console, name: str, image_size: int) -> None:
    """Prints an encoder from outside with the submodules at which it can be cut."""
    encoder = outside_encoders.get(name)
    normalisation = encoder.normalisation(encoder.make(pretrained=False))
    console.print("Encoder ", styled(encoder.name, "bold"), f": {outside_encoders.summary(name)}", sep="")
    table = make_table("encoder:layer", "features", title=f"Layers at {image_size} px")
    for layer, shape in encoder.layers(image_size).items():
        table.add_row(f"{encoder.name}:{layer}", str(shape))
    console.print(table)
    console.print(f"Images are normalised by mean {normalisation.mean} and standard deviation {normalisation.std}.")


def show_cuts(console: Console, cuts: Sequence[EncoderCut], image_size: int) -> None:
    """Prints a row per cut with modifiers: the shape of its features, and their bits if these are limited."""
    table = make_table("encoder:layer", "features", "values", "bits per pixel",
                       title=f"Modified layers at {image_size} px")
    for cut in cuts:
        shape, bits = cut.shape(image_size), cut.bits(image_size)
        table.add_row(str(cut), str(shape), _number(shape.channels * shape.spatial_positions),
                      "not limited" if bits is None else f"{bits / image_size**2:.3g}")
    console.print(table)


def show_modifier(console: Console, name: str) -> None:
    """Prints a modifier with its allowed values."""
    kind = modifiers.get(name)
    console.print(styled(name, "bold"), f": {modifiers.summary(name)}", sep="")
    examples = ", ".join(f"vgg16:block1/{name}={value}" for value in kind.examples)
    console.print(f"Written behind a layer: {examples}. Its value: {kind.allowed}.")


def show_parts(console: Console) -> None:
    """Prints encoders of installed packages, decoders, fusions and modifiers, one line each."""
    if installed := outside_encoders.names():
        table = make_table("", "", title="Encoders of installed packages", show_header=False)
        for name in installed:
            table.add_row(name, outside_encoders.summary(name))
        console.print(table)
    for title, registry in (("Decoders", decoders), ("Fusions", fusions)):
        table = make_table("", "", title=title, show_header=False)
        for name in registry.names():
            table.add_row(name, registry.summary(name))
        console.print(table)
    table = make_table("", "", title="Modifiers of any layer, as in vgg16:block1/pool=2/bits=4", show_header=False)
    for name in modifiers.names():
        examples = " or ".join(f"/{name}={value}" for value in modifiers.get(name).examples)
        table.add_row(examples, modifiers.summary(name))
    console.print(table)
    table = make_table("", "", title="Short names of timm's models, with their pretrained weights", show_header=False)
    for name, model in SHORT_NAMES.items():
        table.add_row(name, TIMM_PREFIX + model)
    console.print(table)
    console.print("Any other timm model is an encoder too: inversion list timm/convnext_base")


def show_part(console: Console, kind: str, registry: Registry[Any], name: str, declared: type[Options]) -> None:
    """Prints a decoder or fusion and its ``--decoder-options`` or ``--fusion-options``."""
    console.print(f"{kind} ", styled(name, "bold"), f": {registry.summary(name)}", sep="")
    options = declared.model_fields
    table = make_table("option", "default", "meaning")
    for option, field in options.items():
        table.add_row(option, str(field.default), field.description or "")
    console.print(table if options else "It has no options.")


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"
