"""What an error of a tracking server or database means: unreachable for now, or a permanent rejection.

Everything that waits, retries, or reports that something is missing decides by the functions of this module. MLflow,
requests, urllib3, SQLAlchemy and Optuna wrap each other's errors, so the whole chain of causes is examined.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
import traceback
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from inversion.errors import InversionError, RequestError
from inversion.retry import is_transient
from inversion.tracking.masking import first_line, safe

STORES = (MlflowException, requests.RequestException, urllib3.exceptions.HTTPError, SQLAlchemyError)
CLOUDS = {"botocore", "boto3", "google", "azure"}
"""Packages of artifact stores that may not be installed: their errors are recognized by module name."""

QUEUE_ERROR = "StorageInternalError"
"""Optuna's exception for every database error; the original error is its cause."""

RETRIED_STATES = {"08", "40", "53", "57"}
"""Transient classes of SQLSTATE: connection, rolled back, insufficient resources, operator intervention.
https://www.postgresql.org/docs/current/errcodes-appendix.html"""

PERMANENT_STATES = {"53100", "57P04"}
"""Exceptions among these: disk full, database dropped."""

RETRIED_LOCKS = {"55P03", "55006"}
"""SQLSTATE of a lock that is not available, and of an object in use."""

SQLITE_RETRIED = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL", "SQLITE_INTERRUPT", "SQLITE_SCHEMA")
MYSQL_RETRIED = {1040, 1053, 1205, 1213, 2002, 2003, 2006, 2013}
"""Too many connections, shutdown, lock wait, deadlock, and a connection that failed or was lost."""

RETRIED_ERRNOS = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETRESET, errno.EAGAIN,
                  errno.EINTR, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE}
# libpq has no SQLSTATE for a rejected connection, only a message.
CONNECTION_REFUSED = re.compile(
    r"FATAL:(?!.*(too many|connection slots|starting up|shutting down|not (yet )?accepting|recovery mode|terminating))"
    r"|certificate|does not support SSL|no password supplied|invalid \S+ value|no pg_hba\.conf entry", re.DOTALL)
# The status as text, where that is all: requests' message, MLflow's after its retries, and http.client's for a proxy.
# MLflow collects the errors of a download's threads as text, and urllib3 those of its attempts.
STATUS_TEXT = re.compile(r"\b(?P<status>[1-5]\d\d) (?:Client|Server) Error: |too many (?P<again>\d{3}) error responses"
                         r"|Tunnel connection failed: (?P<proxy>\d{3})")
COLLECTED = "The following failures occurred while downloading"
"""How MLflow's message of a failed download begins; the errors of its threads follow as text."""

COLLECTED_ERRNO = re.compile(r"\[Errno (\d+)\]")
ATTEMPTS_ENDED = re.compile(r"\(Caused by .*['\"](.+?)['\"]\)+$")
"""How urllib3's message ends: with the error of the last attempt, in quotation marks."""

HINTS = {
    200: "this is not an MLflow server, or a proxy answers in its place",
    401: "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    403: "these credentials lack the permission",
    404: "no MLflow server at this address, or a proxy that does not forward this request",
    407: "the proxy requires a user and password",
    413: "a proxy in front of the server limits the size of uploads, such as nginx by client_max_body_size",
    507: "the server has no space left",
}
CERTIFICATE_HINT = ("MLFLOW_TRACKING_SERVER_CERT_PATH names the certificate to trust, "
                    "MLFLOW_TRACKING_INSECURE_TLS=true trusts any")
MOST_TEXT = 300


class NoTrackingError(RequestError):
    """The tracking store is unreachable or rejects requests; nothing was started."""

    kind = "tracking"


class NoStoreError(NoTrackingError):
    """There is no store at this address, and a reader does not create one."""


class TrackingLostError(InversionError):
    """The tracking store became unreachable during a run; the checkpoints on this machine are safe."""

    kind = "tracking_lost"


class TrackingRefusedError(InversionError):
    """The tracking store answers, but rejects a request of a run or a lookup."""

    kind = "tracking_refused"


def is_lost(error: BaseException | None) -> bool:
    """Whether an error means that a store is unreachable for now, so that a retry is worthwhile.

    MLflow's client retries by itself, but not if the server dies in the middle of a response.
    """
    return _is_transient(error) is True


def is_refused(error: BaseException | None) -> bool:
    """Whether a store rejects a request for good: credentials, size, a missing table, a full disk."""
    return _is_transient(error) is False


def is_missing(error: BaseException) -> bool:
    """Whether an error means that the requested thing does not exist, and nothing else."""
    if isinstance(error, MlflowException):
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return True
        response = _response(error)
        if response is not None or isinstance(error, RestException):
            return False  # a 404 of another page: wrong address, or not an MLflow server
    return (http_status(error) == 404 or isinstance(error, FileNotFoundError)
            or _collected_errno(error) == errno.ENOENT)


def http_status(error: BaseException) -> int | None:
    """The HTTP status in an error or its causes, if any."""
    return next((status for each in _chain(error) if (status := _status(each)) is not None), None)


def reason(error: BaseException) -> str:
    """Why a store is unreachable or rejects a request, in one line: request without passwords, status, and a remedy."""
    return safe(_reason(error))


def to_inversion_error(error: BaseException, hint: str = "") -> InversionError | None:
    """A tracking store's error as an InversionError with a one-line message; None for other errors.

    ``hint`` is what to do once an unreachable store answers again.
    """
    if is_lost(error):
        why = f"the tracking store is unreachable: {reason(error)}"
        return TrackingLostError(f"{why.removesuffix('.')}. {hint}" if hint else why)
    if is_refused(error):
        return TrackingRefusedError(f"the tracking store rejects the request: {reason(error)}")
    return None


def raise_unless_missing(error: BaseException) -> None:
    """Returns only if a failed lookup means that the thing does not exist.

    Raises:
        TrackingLostError: the store is unreachable.
        TrackingRefusedError: it rejected the request for another reason.
    """
    if is_missing(error):
        return
    ours = to_inversion_error(error)
    if ours is None and isinstance(error, OSError):  # from a local folder of artifacts
        ours = TrackingRefusedError(f"the tracking store rejects the request: {first_line(error)}")
    if ours is not None:
        raise ours from error


def _reason(error: BaseException) -> str:
    chain = list(_chain(error))
    if not _is_of_store(chain):
        return first_line(error)
    status = http_status(error)
    if status is not None:
        said = _request(chain) + f"HTTP {status} {_phrase(status)}"
        hint = HINTS.get(status, "")
        return said + (f" ({hint})" if hint else "") + _answer(chain)
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"{each.verify_message or 'certificate verify failed'} ({CERTIFICATE_HINT})"
        if isinstance(each, ssl.SSLError | socket.gaierror | ConnectionError):
            return f"{type(each).__name__}: {first_line(each)}"
        if isinstance(each, requests.Timeout):
            return "no answer within the time limit"
        if isinstance(each, DBAPIError) and each.orig is not None:
            return first_line(each.orig)
    if (found := next((match for each in chain if (match := ATTEMPTS_ENDED.search(str(each)))), None)) is not None:
        return found[1]
    text = str(error)
    return " ".join(text.split())[:MOST_TEXT] if text.startswith(COLLECTED) else first_line(error)


def _is_transient(error: BaseException | None) -> bool | None:
    """Whether an error is transient; None if it does not come from a store."""
    if error is None or isinstance(error, InversionError):  # already classified where it was raised
        return None
    chain = list(_chain(error))
    if not _is_of_store(chain):
        return None
    by_code = (_by_code(each) for each in chain)
    # innermost first: MLflow and Optuna use one class for many causes
    by_class = (_by_class(each) for each in reversed(chain))
    return next((verdict for verdict in (*by_code, *by_class) if verdict is not None), False)


def _is_of_store(chain: list[BaseException]) -> bool:
    return any(isinstance(each, STORES) or type(each).__module__.partition(".")[0] in CLOUDS
               or type(each).__name__ == QUEUE_ERROR for each in chain)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        wrapped = error.orig if isinstance(error, DBAPIError) else None
        inner = error.__cause__ or wrapped or (None if error.__suppress_context__ else error.__context__)
        error = inner if isinstance(inner, BaseException) else None


def _by_code(error: BaseException) -> bool | None:
    """Whether one error is transient, by an unambiguous code: HTTP status, SQLSTATE, errno; None if it has none."""
    status = _status(error)
    if status is not None:
        return is_transient(status)
    if (number := _collected_errno(error)) is not None:
        return number in RETRIED_ERRNOS
    if isinstance(error, MlflowException) and "CERTIFICATE_VERIFY_FAILED" in error.message:
        return False
    if isinstance(error, ssl.SSLError):
        return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError)
    if isinstance(error, DBAPIError):
        return True if error.connection_invalidated else _by_driver_code(error.orig)
    if isinstance(error, requests.RequestException):
        return False if isinstance(error, ValueError | requests.TooManyRedirects) else None  # an invalid URL
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return True
    if isinstance(error, OSError) and type(error).__module__ == "builtins":
        return error.errno in RETRIED_ERRNOS
    return None


def _by_class(error: BaseException) -> bool | None:
    """Whether one error is transient, by its class alone."""
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return is_transient(status)
    if isinstance(error, requests.ConnectionError | requests.Timeout | urllib3.exceptions.HTTPError
                  | requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return True
    if isinstance(error, OperationalError | InterfaceError | InternalError | PoolTimeoutError | DisconnectionError):
        return True
    if isinstance(error, SQLAlchemyError):
        return False
    return True if type(error).__name__ == QUEUE_ERROR else None


def _by_driver_code(error: BaseException | None) -> bool | None:
    """Whether a database driver's error is transient: by PostgreSQL's SQLSTATE, SQLite's name or MySQL's number."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state:
        return state in RETRIED_LOCKS or (state[:2] in RETRIED_STATES and state not in PERMANENT_STATES)
    if name := getattr(error, "sqlite_errorname", None):
        return str(name).startswith(SQLITE_RETRIED)
    number = error.args[0] if error is not None and error.args else None
    if isinstance(number, int):
        return number in MYSQL_RETRIED
    return False if CONNECTION_REFUSED.search(str(error)) else None


def _status(error: BaseException) -> int | None:
    """The HTTP status of one error of a chain."""
    response = _response(error)
    if isinstance(response, dict):  # botocore's
        return _number(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    for value in (getattr(response, "status_code", None), getattr(error, "status_code", None),
                  getattr(error, "code", None)):
        if (status := _number(value)) is not None:
            return status
    if isinstance(error, RestException) and error.json.get("error_code"):
        return int(error.get_http_status_code())
    if isinstance(error, STORES) or type(error) is OSError:
        found = STATUS_TEXT.search(str(error))
        return int(next(filter(None, found.groups()))) if found else None
    return None


def _collected_errno(error: BaseException) -> int | None:
    """The errno of a failed download."""
    text = str(error)
    found = COLLECTED_ERRNO.search(text) if text.startswith(COLLECTED) else None
    return int(found[1]) if found else None


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, int) and 100 <= value < 600 else None


def _response(error: BaseException) -> Any:
    """The response behind one error of a chain, of ``requests`` or botocore; None if there is none.

    MLflow's exceptions do not keep it, nor always its status: MLflow reports JSON responses of a proxy, and statuses
    without an MLflow code (413), as internal errors. Nor does an error about a page where JSON is expected.
    """
    if isinstance(error, MlflowException):
        return _local(error, "verify_rest_response", "response")
    if isinstance(error, requests.JSONDecodeError):
        return _local(error, "json", "self")
    return getattr(error, "response", None)


def _local(error: BaseException, function: str, name: str) -> requests.Response | None:
    """A response among the variables of a function through which an error came."""
    found = (frame.f_locals.get(name) for frame, _ in traceback.walk_tb(error.__traceback__)
             if frame.f_code.co_name == function)
    return next((response for response in found if isinstance(response, requests.Response)), None)


def _responses(chain: list[BaseException]) -> Iterator[requests.Response]:
    yield from (response for each in chain if isinstance(response := _response(each), requests.Response))


def _request(chain: list[BaseException]) -> str:
    """The failed request as ``PUT http://host/…/last.pt: ``, without user, password and query."""
    for response in _responses(chain):
        method = response.request.method if response.request is not None else "GET"
        return f"{method} {_bare(response.url)}: "
    found = next((match for each in chain if (match := re.search(r"for url: (\S+)", str(each)))), None)
    return f"{_bare(found[1])}: " if found else ""


def _bare(url: str | None) -> str:
    parts = urlsplit(url or "")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""


def _answer(chain: list[BaseException]) -> str:
    """The server's own message, unless it is an HTML page or other markup."""
    for response in _responses(chain):
        text = response.text
        if (found := re.search(r'"message"\s*:\s*"((?:[^"\\]|\\.)*)"', text)) is not None:
            text = found[1]
        text = " ".join(text.split())
        return f": {text[:MOST_TEXT]}" if text and not text.startswith(("<", "{", "[")) else ""
    return ""
