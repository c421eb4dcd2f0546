"""A study in MLflow's own pages and in its report, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from inversion.cli.app import run_command
from inversion.cli.report import cli as report
from inversion.tracking.pages import page_link
from inversion.tracking.views import view_of

pytestmark = pytest.mark.acceptance


def test_the_study_s_page_leads_to_its_runs_and_to_its_report(
    lab: Any, tracking_server: Any, page: Any, tmp_path: Path
) -> None:
    spec = lab.spec("grid:\n  - decoder: [transposed_conv, wavelet]")
    outcome = lab.finish(spec, "--tracking-uri", tracking_server.address)
    assert outcome.code == 0, outcome.err
    assert run_command(report, ["tiny", "--output", str(tmp_path), "--tracking-uri", tracking_server.address]) == 0
    parent = lab.results(tracking=tracking_server.address).parent
    address = f"{tracking_server.address}/#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}"
    assert address in outcome.out
    page.goto(address)
    page.get_by_role("heading", name="tiny").wait_for()
    for name in ("vgg16:block1+transposed_conv", "vgg16:block1+wavelet"):
        page.get_by_role("link", name=name).first.wait_for()
    page.goto(f"{address}/artifacts")
    for name in ("leaderboard.csv", "runs.json", "tiny.yaml", "report"):
        page.get_by_text(name, exact=True).first.wait_for()
    page.get_by_text("report", exact=True).first.click()
    page.get_by_text("index.html", exact=True).first.click()
    page.frame_locator("iframe").locator("#answer").wait_for()


def test_the_study_s_description_leads_to_a_table_and_charts_of_its_runs(
    lab: Any, tracking_server: Any, page: Any
) -> None:
    server = tracking_server.address
    spec = lab.spec('grid:\n  - decoder: [transposed_conv, wavelet]\n    encoder: ["vgg16:block1", "resnet34:layer1"]')
    outcome = lab.finish(spec, "--tracking-uri", server, "--experiment", "in the browser",
                         "--storage", lab.folder / "queue.db")
    assert outcome.code == 0, outcome.err
    client: Any = MlflowClient(server)
    experiment = client.get_experiment_by_name("in the browser")
    study, = client.search_runs([experiment.experiment_id], "tags.`inversion.kind` = 'study'")
    page.goto(page_link(server, experiment.experiment_id, study.info.run_id))
    page.get_by_text("is best by validation").wait_for()
    with page.context.expect_page() as opened:
        page.get_by_text("table and charts of the runs").click()
    table = opened.value
    table.set_viewport_size({"width": 1400, "height": 1200})
    table.set_default_timeout(60_000)
    for column in ("network", "network_layer", "decoder", "test/psnr"):
        table.get_by_role("columnheader", name=column, exact=True).first.wait_for()
    for cell in ("vgg16", "resnet34", "block1", "layer1", "wavelet"):
        table.get_by_role("gridcell", name=cell, exact=True).first.wait_for()
    assert table.get_by_text("4 matching runs").is_visible()  # without the study's own
    link = page_link(server, experiment.experiment_id, view=view_of("tiny"))
    table.goto(f"{link}&compareRunsMode=CHART")
    table.get_by_text("Parallel Coordinates").wait_for()
    axes = table.locator(".parcoords text.label")
    axes.nth(3).wait_for()
    assert axes.all_text_contents() == ["network", "network_layer", "decoder", "test/psnr"]


def test_the_report_of_a_study_that_was_trained_opens_without_an_error_and_sorts(
    lab: Any, page: Any, tmp_path: Path
) -> None:
    spec = lab.spec("grid:\n  - decoder: [transposed_conv, wavelet]\n    protocol: [image, published]")
    assert lab.finish(spec).code == 0
    assert run_command(report, ["tiny", "--output", str(tmp_path)]) == 0
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    page.goto(f"file://{tmp_path}/index.html")
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator(".main-svg").first.wait_for()
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) >= 3 * 3  # three test images: the original, two decoders, two differences
    assert min(widths) == max(widths) == int(page.evaluate("document.images[0].naturalHeight"))
    assert "2 runs of another protocol are ranked separately" in page.locator("#answer").inner_text()
    heading = page.locator("#table-leaderboard th button", has_text="parameters")
    seen = []
    for _ in range(2):
        heading.click()
        seen.append(page.locator("#table-leaderboard tbody tr td:nth-child(2)").all_inner_texts())
    assert seen[0] == seen[1][::-1]
    assert sorted(seen[0]) == ["vgg16:block1+transposed_conv", "vgg16:block1+wavelet"]
    for anchor in page.locator("nav a").all():
        assert page.locator(str(anchor.get_attribute("href"))).count() == 1
    assert errors == []
