"""What the rankings leave out: runs that failed, and runs that have not begun or were deleted."""

from __future__ import annotations

from inversion.report.data.study_data import ReportRun, StudyData
from inversion.report.tables.table import ReportTable, Shown

RUN_ID = Shown("MLflow run", "{run_id}")


def failures(data: StudyData) -> ReportTable:
    """Runs without scores, and why."""
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
    """Runs that were queued and are not there."""
    note = f"inversion-sweep --join --study {data.name} works on those that have not begun."
    if data.deleted:
        note += " inversion-sweep with a spec that asks for them does deleted ones again."
    return ReportTable("missing", "Runs that have not begun, or were deleted" if data.deleted
                       else "Runs that have not begun", [Shown("run", "{run}"), Shown("why", "{why}")],
                       [{"run": item["run"], "why": "deleted in MLflow" if item.get("is_deleted") else "not begun"}
                        for item in data.absent], note)
