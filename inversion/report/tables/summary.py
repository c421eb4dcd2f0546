"""The study in numbers, and what of it the answer leaves out: what is not finished, failed or stands apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from inversion.config.document import is_newer
from inversion.report.data.board import Board
from inversion.report.data.comparable import COMPARABLE
from inversion.report.data.study_data import ReportRun, StudyData


def summary(data: StudyData, boards: Sequence[Board]) -> dict[str, str]:
    """The study in numbers."""
    finished, failed, pruned = data.having("FINISHED"), data.having("FAILED"), data.pruned
    causes = Counter(run.tags.get("inversion.failure", "error") for run in failed)
    rescued = [run.name for run in finished if "inversion.micro_batch" in run.tags]
    attempted = len(data.runs)
    numbers = {
        "attempted": f"{attempted} of {attempted + len(data.missing)} runs",
        "finished": str(len(finished)),
        "failed": ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items())) or "none",
        "interrupted or running": str(attempted - len(finished) - len(failed) - len(pruned)),
        "rescued from out-of-memory": ", ".join(rescued) or "none",
        "total time": _time(data.runs),
    }
    if pruned:
        numbers["pruned"] = str(len(pruned))
    if data.deleted:
        numbers["deleted in MLflow"] = str(len(data.deleted))
    return numbers | (_scores(boards[0]) if boards else {})


def _scores(board: Board) -> dict[str, str]:
    worst, single = board.configurations[-1], board.single
    return {
        "best overall": f"{board.winner.label} ({board.winner.psnr.mean:.2f} dB)",
        "best single model": f"{single[0].label} ({single[0].psnr.mean:.2f} dB)" if single else "none",
        "range": f"{board.winner.psnr.mean - worst.psnr.mean:.2f} dB, down to {worst.label} "
                 f"({worst.psnr.mean:.2f} dB)",
    }


def _time(runs: Sequence[ReportRun]) -> str:
    """Hours of training and evaluation where they were logged; of the others, from their beginning to their end."""
    working = [run for run in runs if run.working_hours is not None]
    others = [run for run in runs if run.working_hours is None and run.hours]
    total = sum(run.working_hours or 0.0 for run in working) + sum(run.hours for run in others)
    parts = [f"training and evaluation of {_runs(len(working))}"] if working else []
    parts += [f"{_runs(len(others))} without these times from beginning to end"] if others else []
    return f"{total:.2f} h" + (f" ({'; '.join(parts)})" if parts else "")


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def standing(data: StudyData, boards: Sequence[Board]) -> list[str]:
    """One sentence on what the answer does not rest on; none where every run is finished and in it."""
    finished, failed, pruned = data.having("FINISHED"), data.having("FAILED"), data.pruned
    total = len(data.runs) + len(data.missing)
    unscored = [run for run in finished if not run.is_scored]
    parts = []
    if len(finished) + len(pruned) < total:
        parts.append(f"{len(finished)} of {total} runs are finished")
    parts += [f"{len(failed)} failed"] if failed else []
    parts += [f"{len(data.deleted)} were deleted in MLflow"] if data.deleted else []
    parts += [f"{len(unscored)} finished without scores"] if unscored else []
    newer = sum(is_newer(run.document) for run in data.runs)
    parts += [f"{_runs(newer)} made by a newer version of inversion, of which what this one does not know is left out"
              ] if newer else []
    parts += [_apart(boards[0], board) for board in boards[1:]]
    return ["; ".join(parts) + "."] if parts else []


def _apart(board: Board, other: Board) -> str:
    count = sum(len(item.runs) for item in other.configurations)
    what = [name.replace("_", " ") for name, mine, its in zip(COMPARABLE, board.group, other.group, strict=True)
            if mine != its] or ["set of test images"]
    return f"{_runs(count)} of another {' and '.join(what)} {'stands' if count == 1 else 'stand'} apart"
