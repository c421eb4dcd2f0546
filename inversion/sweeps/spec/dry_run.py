"""What ``--dry-run`` prints of a spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box

from inversion.config.labels import COMMENT
from inversion.config.resolve import run_name
from inversion.console import Console, make_table
from inversion.objectives import GRID_METRIC
from inversion.sweeps.spec.grid import PRIORITY, Configuration, checked_config, format_value
from inversion.sweeps.spec.search import Search
from inversion.sweeps.spec.spec import Spec

if TYPE_CHECKING:
    from rich.table import Table


def show(spec: Spec, console: Console) -> None:
    """Prints the study, its file, and a row for each run of the grid; or the search with its space."""
    for key, text in spec.labels.items():
        console.print(f"{'comment' if key == COMMENT else f'tag {key}'}: {text}", soft_wrap=True)
    if spec.limits.run_time is not None:
        console.print(f"limits: {spec.limits}")
    if spec.search is not None:
        console.print(f"study {spec.study} from {spec.origin}: a search of {spec.search.trials:,} trials")
        _show_search(spec.search, console)
        _show_shared(spec.base, console)
    else:
        count = len(spec.configs)
        console.print(f"study {spec.study} from {spec.origin}: {count:,} {'run' if count == 1 else 'runs'}")
        if spec.tuned:
            console.print(_stages(spec), soft_wrap=True)
        if spec.pruner:
            console.print(f"pruner {spec.pruner} on {GRID_METRIC}: the first seed of each configuration competes",
                          soft_wrap=True)
        _show_grid(spec.configurations, console)


def _stages(spec: Spec) -> str:
    """How many of the runs are done first, and how many once the values of the tuned parameters are chosen."""
    seeds: dict[tuple[tuple[str, Any], ...], list[int]] = {}
    for config in spec.configs:
        values = config.model_dump(exclude={"seed", *spec.tuned})
        seeds.setdefault(tuple(values.items()), []).append(config.seed)
    later = sum(len(set(each)) - 1 for each in seeds.values())
    first = sum(each.count(min(each)) for each in seeds.values())
    return (f"{', '.join(spec.tuned)} tuned for each of {len(seeds)} configurations: {first} runs with the first seed, "
            f"then {later} with the other seeds of the best by validation; the rest are not done")


def _show_grid(configurations: Sequence[Configuration], console: Console) -> None:
    """A row for each run with what varies; below it what all share and is not the default."""
    configs = [each.config for each in configurations]
    values = [config.model_dump(exclude={"layer"}) for config in configs]  # the encoder has the layer
    columns = [name for name in values[0] if any(each[name] != values[0][name] for each in values)]
    ranked = any(each.priority for each in configurations)
    table = _table("#", "run", *columns, *([PRIORITY] if ranked else []))
    for number, each in enumerate(configurations, start=1):
        table.add_row(str(number), run_name(each.config, []), *(format_value(each.config, name) for name in columns),
                      *([str(each.priority)] if ranked else []))
    console.print(table)
    defaults = checked_config({}).model_dump()
    _show_shared({name: format_value(configs[0], name) for name, value in values[0].items()
                  if name not in columns and value != defaults[name]}, console)


def _show_search(search: Search, console: Console) -> None:
    table = _table("parameter", "type", "values")
    for name, distribution in search.space.items():
        table.add_row(name, distribution.type, str(distribution))
    console.print(table)
    console.print(f"{search.direction} {search.metric}, sampler {search.sampler}, pruner {search.pruner}"
                  f"{'' if search.pruner.name == 'none' else f' on {search.reported_metric()}'}, seed {search.seed}")


def _show_shared(settings: Mapping[str, str], console: Console) -> None:
    if text := ", ".join(f"{name}={value}" for name, value in settings.items()):
        console.print(f"all: {text}")


def _table(*columns: str) -> Table:
    table = make_table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)  # a row of the study fits into 80 columns
    for column in columns:
        table.add_column(column, justify="right" if column == "#" else "left", overflow="fold")
    return table
