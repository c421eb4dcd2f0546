"""Shows what a spec asks for, before anything is queued."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich import box

from inversion.config.resolve import run_name
from inversion.config.run_config import RunConfig
from inversion.console import Console, make_table
from inversion.sweeps.spec.search import Search
from inversion.sweeps.spec.spec import Spec
from inversion.sweeps.spec.values import checked, shown

if TYPE_CHECKING:
    from rich.table import Table


def show(spec: Spec, console: Console) -> None:
    """The study, the file that was taken, and a row for each run of the grid; or the search with its space."""
    if spec.search is not None:
        _line(console, f"study {spec.study} from {spec.path}: a search of {spec.search.trials:,} trials")
        _show_search(spec.search, console)
        _show_shared(console, [(name, text) for name, text in spec.base.items()])
        return
    count = len(spec.configurations)
    _line(console, f"study {spec.study} from {spec.path}: {count:,} {'run' if count == 1 else 'runs'}")
    configs = [each.config for each in spec.configurations]
    columns = _varying(configs)
    table = _table("#", "run", *columns)
    for number, config in enumerate(configs, start=1):
        table.add_row(str(number), run_name(config, []), *(shown(config, name) for name in columns))
    console.print(table)
    _show_shared(console, _settings(configs[0], columns))


def _varying(configs: Iterable[RunConfig]) -> list[str]:
    """The parameters that differ between runs; the layer stands in the encoder."""
    values = [config.model_dump(exclude={"layer"}) for config in configs]
    return [name for name in values[0] if any(each[name] != values[0][name] for each in values)]


def _settings(config: RunConfig, varying: Iterable[str]) -> list[tuple[str, str]]:
    """What all runs share and is not the default."""
    standard = checked({})
    names = (name for name in RunConfig.model_fields if name not in {"layer", *varying})
    return [(name, shown(config, name)) for name in names if shown(config, name) != shown(standard, name)]


def _show_search(search: Search, console: Console) -> None:
    table = _table("parameter", "type", "values")
    for name, distribution in search.space.items():
        table.add_row(name, distribution.type, str(distribution))
    console.print(table)
    _line(console, f"{search.direction} {search.metric}, sampler {search.sampler}, pruner {search.pruner}"
                   f"{'' if search.pruner.name == 'none' else f' on {search.reported()}'}, seed {search.seed}")


def _show_shared(console: Console, settings: Iterable[tuple[str, str]]) -> None:
    if text := ", ".join(f"{name}={value}" for name, value in settings):
        _line(console, f"all: {text}")


def _table(*columns: str) -> Table:
    table = make_table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)  # a row of the study fits into 80 columns
    for column in columns:
        table.add_column(column, justify="right" if column == "#" else "left", overflow="fold")
    return table


def _line(console: Console, text: str) -> None:
    console.print(text)
