"""The description of a training run on its page in MLflow: what was trained, on what, with which scores."""

from __future__ import annotations

from collections.abc import Mapping

from inversion.metrics import BASIC, METRICS
from inversion.runs.prepare import Prepared
from inversion.tracking.notes import comment_lines, literal, write_note
from inversion.tracking.pages import link_on_page
from inversion.tracking.study import StudyRun
from inversion.tracking.tracked_run import TrackedRun


def describe_run(run: TrackedRun, prepared: Prepared, study: StudyRun | None, metrics: Mapping[str, float] | None = None
                 ) -> None:
    """Writes the description; with ``metrics`` once the run has been tested. One that a user has edited stays.

    Raises:
        MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
        InterruptedRunError: a stop was requested while the store was unreachable.
    """
    found = run.client.get_run(run.run_id)
    place = found.info.experiment_id
    plan, config = prepared.plan, prepared.plan.config
    features = " and ".join(f"{literal(cut)} ({cut.shape(config.image_size)})" for cut in plan.cuts)
    fusion = "" if config.fusion == "none" else f", fused by {literal(config.fusion)}"
    lines = [f"Images of {literal(plan.photos.name)} at {config.image_size} pixels, reconstructed by the decoder "
             f"**{literal(config.decoder)}** from the features of **{features}**{fusion}.",
             *(f"Note: {literal(fallback.short)}." for fallback in plan.fallbacks)]
    lines += comment_lines(found.data.tags)
    if metrics is not None:
        lines.insert(0, _scores(prepared, metrics))
        lines.append(f"Look at {link_on_page('the reconstructions', place, run.run_id, artifact='reconstructions')}.")
    if study is not None:
        lines.append(f"Part of the study {link_on_page(literal(study.name), place, study.run_id)}.")
    write_note(run.client, run.run_id, "\n\n".join(lines))


def _scores(prepared: Prepared, metrics: Mapping[str, float]) -> str:
    """The test scores in one sentence."""
    known = [(name, metrics[f"test/{name}"]) for name in BASIC if f"test/{name}" in metrics]
    scores = ", ".join(f"{name.upper()} {value:.{METRICS[name].digits}f}{' dB' if name == 'psnr' else ''}"
                       for name, value in known)
    return (f"{scores} on {len(prepared.photos.names('test'))} test images, with the weights of epoch "
            f"{metrics['best_epoch']:.0f} of {metrics['epochs_run']:.0f}.")
