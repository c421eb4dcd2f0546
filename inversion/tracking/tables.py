"""What a database is for, by its tables: MLflow and Optuna cannot share one, both call their versions alike."""

from __future__ import annotations

from sqlalchemy import inspect
from sqlalchemy.engine import Connection

OF_TRACKING = {"experiments", "runs", "latest_metrics"}
OF_A_QUEUE = {"studies", "trials", "version_info"}


def is_tracking_store(database: Connection) -> bool:
    """Whether a database has MLflow's tables."""
    return set(inspect(database).get_table_names()) >= OF_TRACKING


def is_queue(database: Connection) -> bool:
    """Whether a database has Optuna's tables and not MLflow's."""
    tables = set(inspect(database).get_table_names())
    return tables >= OF_A_QUEUE and not tables >= OF_TRACKING
