"""What ``--remove`` changes in a study's queue, and what ``--dry-run`` finds in an existing study."""

from __future__ import annotations

from collections.abc import Sequence

from inversion.console import make_console
from inversion.errors import InversionError
from inversion.sweeps.opening import Options, connect_to_study, open_existing, service_errors
from inversion.sweeps.queue.entry import Snapshot
from inversion.sweeps.queue.removal import remove_waiting, select_waiting
from inversion.sweeps.spec.spec import Spec
from inversion.sweeps.study.additions import preview_additions
from inversion.sweeps.study.reconcile import record_removal
from inversion.sweeps.study.set_up import locate_queue
from inversion.sweeps.study.study import find_queued, require_same_search, require_same_store
from inversion.sweeps.workers.driver import read_snapshot
from inversion.tracking.store_errors import NoStoreError


def preview(spec: Spec, options: Options) -> list[str]:
    """What the real run would refuse of the existing study and its stores, or which runs it would add beside others.

    Runs are compared by their parameters: nothing is resolved, so images and weights are not compared.
    """
    try:
        with service_errors():
            connection = connect_to_study(spec.study, options, make=False)
            study = find_queued(spec.study, locate_queue(options["storage"], connection, spec.study))
            if study is None:
                return []
            require_same_store(study.queue.study, connection.uri)
            require_same_search(study.queue.study, spec.search)
            line = None if spec.search else preview_additions(study, spec.configs)
    except NoStoreError:  # the real run creates it
        return []
    except InversionError as error:
        return [f"the real run would refuse: {error}"]
    return [line] if line else []


def remove(name: str, patterns: Sequence[str], options: Options) -> int:
    """Removes waiting runs from a study's queue, or with ``dry_run`` only shows which; returns the exit code.

    Raises:
        UnknownNameError: there is no such study, or a pattern matches no run.
        RequestError: a pattern matches only runs that are not waiting.
        InversionError: the tracking store or the queue does not answer or rejects a request.
    """
    console = make_console()
    with service_errors():
        study, connection = open_existing(name, options)
        snapshot = read_snapshot(study.queue)
        wanted, others = select_waiting(snapshot, patterns, name)
        removed = wanted if options["dry_run"] else remove_waiting(study.queue, wanted)
        if removed and not options["dry_run"]:
            record_removal(study, connection)
    did = "would be removed" if options["dry_run"] else "removed"
    for entry in removed:
        console.print(f"{did}: {entry.root}  {snapshot.label(entry)}", soft_wrap=True)
    if missed := len(wanted) - len(removed):
        console.print(f"{missed} began meanwhile and stay")
    if others:
        console.print(f"not removed: {Snapshot(others, snapshot.at).counts_text}")
    console.print(f"study {name}: {len(removed)} of {len(snapshot.entries)} runs {did}; a spec that asks for them "
                  "queues them again", soft_wrap=True)
    return 0
