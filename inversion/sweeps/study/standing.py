"""The configurations of a study in the order of their validation scores. Test scores decide nothing here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from inversion.config.document import DocumentError
from inversion.metrics import counted
from inversion.report.data.comparable import Document, distinguished, groups_of, identity_of, name_of
from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.study.study import Study
from inversion.tracking.connection import Connection
from inversion.tracking.search import document_of
from inversion.tracking.study import DIGEST, children

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Standing:
    """One configuration, with all its seeds.

    Attributes:
        name: Its name, unique in the study.
        value: Mean of the study's objective over the seeds.
        runs: Its finished runs, the best by the objective first.
    """

    name: str
    value: float
    runs: Sequence[Run]

    def mean(self, metric: str) -> float | None:
        """Mean of a metric over the seeds; None unless every run has it. A PSNR is capped as in every mean."""
        values = [run.data.metrics.get(metric) for run in self.runs]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return fmean(counted(known).tolist() if "psnr" in metric else known)


def standings(study: Study, connection: Connection, entries: Sequence[Entry]) -> list[Standing]:
    """The configurations with finished runs, best first by the study's objective on the validation images.

    Scores on different images, in different protocols or with different weights cannot be compared: only the largest
    group of comparable runs is ranked. Of a tuned configuration, only the chosen value is.
    """
    tuning = study.queue.tuning(entries)
    values = {entry.run_id: value for entry in entries if entry.state == "finished"
              if (value := entry.trial.value) is not None and not math.isnan(value)}
    finished = [run for run in children(connection, study.name, "attributes.status = 'FINISHED'")
                if run.info.run_id in values and tuning.ranks(run.data.tags.get(DIGEST))]
    comparable = _largest_group(finished)
    configurations: dict[str, list[tuple[Run, Document]]] = {}
    for run, document in comparable:
        configurations.setdefault(identity_of(document), []).append((run, document))
    firsts = [pairs[0][1] for pairs in configurations.values()]
    names = distinguished([name_of(_without_seed(document)) for document in firsts], firsts)
    sign = -1 if study.direction == "maximize" else 1
    found = []
    for name, pairs in zip(names, configurations.values(), strict=True):
        runs = sorted((run for run, _ in pairs), key=lambda run: sign * values[run.info.run_id])
        found.append(Standing(name, fmean(values[run.info.run_id] for run in runs), runs))
    return sorted(found, key=lambda standing: (sign * standing.value, standing.name))


def _largest_group(runs: Iterable[Run]) -> list[tuple[Run, Document]]:
    """The runs of the largest group that can be compared, with their configurations; unreadable ones are left out."""
    documents: list[tuple[Run, Document]] = []
    for run in runs:
        try:
            documents.append((run, document_of(run)))
        except DocumentError:  # the leaderboard logs a warning
            continue
    groups = groups_of([document for _, document in documents])
    if not groups:
        return []
    largest, _ = min(Counter(groups).items(), key=lambda item: (-item[1], item[0]))
    return [pair for pair, group in zip(documents, groups, strict=True) if group == largest]


def _without_seed(document: Document) -> Mapping[str, object]:
    return {**document, "parameters": {**document["parameters"], "seed": 0}}
