"""The study as a whole: counts, shared parameters and versions, failed and missing runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from inversion.config.document import is_newer
from inversion.report.data.board import Board
from inversion.report.data.comparable import COMPARABLE
from inversion.report.data.study import ReportRun, StudyData, shared_parameters
from inversion.report.tables.table import ReportTable, Shown
from inversion.tracking.ownership import COMMIT

VERSION = "inversion.version."
RUN_ID = Shown("MLflow run", "{run_id}")


def summary(data: StudyData, boards: Sequence[Board]) -> dict[str, str]:
    """The study in numbers."""
    finished, failed, pruned, timed_out = data.having("FINISHED"), data.having("FAILED"), data.pruned, data.timed_out
    causes = Counter(run.tags.get("inversion.failure", "error") for run in failed)
    rescued = [run.name for run in finished if "inversion.micro_batch" in run.tags]
    attempted = len(data.runs)
    numbers = {
        "attempted": f"{attempted} of {attempted + len(data.missing)} runs",
        "finished": str(len(finished)),
        "failed": ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items())) or "none",
        "interrupted or running": str(attempted - len(finished) - len(failed) - len(pruned) - len(timed_out)),
        "rescued from out-of-memory": ", ".join(rescued) or "none",
        "total time": _time(data.runs),
    }
    if timed_out:
        numbers["reached their time limit"] = str(len(timed_out))
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
    """Total hours: training and evaluation if logged, else from start to end."""
    working = [run for run in runs if run.working_hours is not None]
    others = [run for run in runs if run.working_hours is None and run.hours]
    total = sum(run.working_hours or 0.0 for run in working) + sum(run.hours for run in others)
    parts = [f"training and evaluation of {_runs(len(working))}"] if working else []
    parts += [f"{_runs(len(others))} without these times from beginning to end"] if others else []
    return f"{total:.2f} h" + (f" ({'; '.join(parts)})" if parts else "")


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def standing(data: StudyData, boards: Sequence[Board]) -> list[str]:
    """A sentence on the runs that the conclusions leave out; none if all runs are finished and comparable."""
    finished, failed, pruned = data.having("FINISHED"), data.having("FAILED"), data.pruned
    total = len(data.runs) + len(data.missing)
    unscored = [run for run in finished if not run.is_scored]
    parts = []
    if len(finished) + len(pruned) < total:
        parts.append(f"{len(finished)} of {total} runs are finished")
    parts += [f"{len(failed)} failed"] if failed else []
    parts += [f"{len(data.timed_out)} reached their time limit"] if data.timed_out else []
    parts += [str(data.stopped_early)] if data.stopped_early else []
    parts += [f"{len(data.deleted)} were deleted in MLflow"] if data.deleted else []
    parts += [f"{len(unscored)} finished without scores"] if unscored else []
    newer = sum(is_newer(run.document) for run in data.runs)
    parts += [f"{_runs(newer)} made by a newer version of inversion, whose unknown parameters are ignored"
              ] if newer else []
    parts += [_apart(boards[0], board) for board in boards[1:]]
    return ["; ".join(parts) + "."] if parts else []


def _apart(board: Board, other: Board) -> str:
    count = sum(len(item.runs) for item in other.configurations)
    what = [name.replace("_", " ") for name, mine, its in zip(COMPARABLE, board.group, other.group, strict=True)
            if mine != its] or ["set of test images"]
    return f"{_runs(count)} of another {' and '.join(what)} {'is' if count == 1 else 'are'} ranked separately"


def versions_of(data: StudyData) -> dict[str, str]:
    """Versions and commits of the runs; several values of one are joined."""
    found: dict[str, set[str]] = {}
    for run in data.runs:
        for name, value in run.tags.items():
            if name.startswith(VERSION) or name == COMMIT:
                found.setdefault(name.removeprefix(VERSION).removeprefix("inversion."), set()).add(value)
    return {name: ", ".join(sorted(values)) for name, values in sorted(found.items())}


def parameters_of(data: StudyData) -> dict[str, str]:
    """The resolved parameters that all runs share, as they are written in a spec."""
    shared = shared_parameters(data.runs)
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in shared.items()}


def failures(data: StudyData) -> ReportTable:
    """Runs without scores, with the reason."""
    rows = [{"run": run.name, "status": run.status, **_why(run), "run_id": run.run_id}
            for run in data.runs if not run.is_scored]
    shown = [Shown("run", "{run}"), Shown("status", "{status}"), Shown("cause", "{cause}"),
             Shown("message", "{message}"), RUN_ID]
    return ReportTable("failures", "What has no scores, and why", shown, rows)


def _why(run: ReportRun) -> dict[str, str | None]:
    if run.problem and not run.document:
        return {"cause": "configuration", "message": run.problem}
    if run.problem:
        return {"cause": "scores", "message": f"{run.problem} Its table of test images is missing or cannot be read"}
    if run.status == "FINISHED":
        return {"cause": "scores", "message": "the PSNR or SSIM of a test image is not finite: it cannot be ranked"}
    return {"cause": run.tags.get("inversion.failure"), "message": run.tags.get("inversion.failure_message")}


def missing(data: StudyData) -> ReportTable:
    """Queued runs that have not started or have been deleted."""
    note = f"inversion-sweep --join --study {data.name} works on those that have not begun."
    if data.deleted:
        note += " inversion-sweep with a spec that asks for them does deleted ones again."
    return ReportTable("missing", "Runs that have not begun, or were deleted" if data.deleted
                       else "Runs that have not begun", [Shown("run", "{run}"), Shown("why", "{why}")],
                       [{"run": item["run"], "why": "deleted in MLflow" if item.get("is_deleted") else "not begun"}
                        for item in data.absent], note)
