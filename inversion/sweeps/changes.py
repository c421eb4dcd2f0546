"""What ``--dry-run`` finds in an existing study."""

from __future__ import annotations

from inversion.errors import InversionError
from inversion.sweeps.opening import Options, connect_to_study, service_errors
from inversion.sweeps.spec.spec import Spec
from inversion.sweeps.study.additions import preview_additions
from inversion.sweeps.study.set_up import locate_queue
from inversion.sweeps.study.study import find_queued, require_same_search, require_same_store
from inversion.tracking.store_errors import NoStoreError


def preview(spec: Spec, options: Options) -> list[str]:
    """What the real run would refuse of the existing study and its stores, or which runs it would add beside others.

    Runs are compared by their parameters: nothing is resolved, so images and weights are not compared.
    """
    try:
        with service_errors():
            connection = connect_to_study(spec.study, options)
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
