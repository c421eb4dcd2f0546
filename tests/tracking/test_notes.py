"""Descriptions of runs: ours are kept up to date, and a user's own words stay."""

from __future__ import annotations

from pathlib import Path

from mlflow.tracking import MlflowClient

from inversion.tracking.connection import connect
from inversion.tracking.notes import literal, write_note

NOTE = "mlflow.note.content"


def test_a_description_is_replaced_until_a_user_edits_it(workplace: Path) -> None:
    connection = connect()
    client: MlflowClient = connection.client
    run_id = client.create_run(connection.experiment_id).info.run_id
    for text in ("first", "second", "second"):
        write_note(client, run_id, text)
        assert client.get_run(run_id).data.tags[NOTE] == text
    client.set_tag(run_id, NOTE, "second, edited")
    write_note(client, run_id, "third")
    assert client.get_run(run_id).data.tags[NOTE] == "second, edited"


def test_a_description_of_someone_else_stays(workplace: Path) -> None:
    connection = connect()
    run_id = connection.client.create_run(connection.experiment_id, tags={NOTE: "mine"}).info.run_id
    write_note(connection.client, run_id, "ours")
    assert connection.client.get_run(run_id).data.tags[NOTE] == "mine"


def test_names_are_no_markdown() -> None:
    assert literal("a_b*c|[d](e)#<f>") == r"a\_b\*c\|\[d\](e)\#\<f\>"
