"""Addresses of tracking stores and queues: parsing, validation, and which kind of store an address names."""

from __future__ import annotations

import difflib
import getpass
import os
import re
import socket
from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from inversion.errors import RequestError
from inversion.files import resolved
from inversion.tracking.masking import ASSIGNED, is_path, remember, split_userinfo, without_password

SERVERS, POSTGRESQL = ("http", "https"), "postgresql"
DATABASES = (POSTGRESQL, "mysql", "mssql")
FORMS = {"sqlite": "sqlite:///FILE", **{name: f"{name}://HOST:PORT" for name in SERVERS},
         **{name: f"{name}://USER@HOST/DATABASE" for name in DATABASES}, "file": "file:///FOLDER"}
"""The format of each kind of address."""

DATABRICKS = "databricks"
QUEUES = ("sqlite", POSTGRESQL)
ALLOWED_QUEUES = (f"a file or {FORMS['sqlite']} for one machine, and {FORMS[POSTGRESQL]} for several. Other databases "
                  "are not known to hand out a run only once")
ALLOWED_STORES = ", ".join(FORMS.values())
DATABASE_FILES = (".db", ".sqlite", ".sqlite3", ".db3")
PACKAGES = {"psycopg": "'inversion[postgresql]'", "MySQLdb": "mysqlclient"}
"""The package of a database driver, where it is not named like its module."""

NAMES_DATABASE = {"dbname", "database", "service", "odbc_connect"}
LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
POSTGRESQL_PORT = 5432
HOST_AND_PORT = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:]+\]):\d+(?:/.*)?")
LIKE_A_LOGIN = re.compile(r"^[^/]*@[^/]+/|//[^/]*@|:[^/]*@")
LIKE_A_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(:|//)")


def read_store(text: str, option: str) -> str:
    """The normalized address of a tracking store: scheme in lower case, a file or folder by its absolute path.

    Args:
        text: what the user typed.
        option: where it was typed, for the message of an error: an option or an environment variable.

    Raises:
        RequestError: it is malformed, or cannot be a tracking store.
    """
    url = _read(text, option, (*FORMS, DATABRICKS, *_plugins()), ALLOWED_STORES)
    scheme = url.partition(":")[0]
    if scheme in _plugins() or scheme == DATABRICKS:
        return url
    if "://" in url and scheme != "file":
        return absolute(url)
    named = unquote(re.sub("^file:(//(localhost)?(?=/))?", "", url)) if scheme == "file" else url
    path = Path(os.path.expanduser(named))
    if os.path.isfile(path) or path.suffix in DATABASE_FILES:
        _reject(option, text, f"is not a folder. An SQLite database is written {sqlite_url(path)}")
    return path.absolute().as_uri()


def read_queue(text: str, option: str = "--storage") -> str:
    """The normalized address of a queue's database; a path means an SQLite file.

    Raises:
        RequestError: it is malformed, or a database on which Optuna's claims are not known to be atomic.
    """
    url = _read(text, option, QUEUES, ALLOWED_QUEUES)
    return absolute(url) if "://" in url else sqlite_url(resolved(os.path.expanduser(url)))


def is_server(url: str) -> bool:
    """Whether a tracking store can be used from other machines: a server or database server, not a file or folder."""
    return url.startswith(DATABRICKS) or ("://" in url and not url.startswith(("file:", "sqlite:")))


def require_reachable(stores: Mapping[str, str], machines: int, cluster: str) -> None:
    """Raises a RequestError if workers on other machines of a cluster could not reach the queue or the tracking store.

    Args:
        stores: addresses by the option that gives them.
        machines: how many machines the cluster has.
        cluster: its name in the message.
    """
    for option, url in stores.items():
        place = urlsplit(url)
        local = place.scheme in ("", "file", "sqlite") or place.hostname in LOCAL_HOSTS
        if local and machines > 1:
            raise RequestError(f"{option} {without_password(url)} is only reachable from this machine, and {cluster} "
                               "has several machines: give a server that all of them can reach.")


def is_same_database(one: str, other: str) -> bool:
    """Whether two addresses name the same database, however they are written."""
    file, file_too = sqlite_file(one), sqlite_file(other)
    if file is not None and file_too is not None:
        return file == file_too or (os.path.exists(file) and os.path.exists(file_too) and file.samefile(file_too))
    return one.startswith(POSTGRESQL) and other.startswith(POSTGRESQL) and _location(one) == _location(other)


def install_hint(error: BaseException) -> str:
    """How to install the database driver that an error says is missing; empty for other errors."""
    if not isinstance(error, ImportError):
        return ""
    package = PACKAGES.get(error.name or "psycopg", error.name)
    return f" Install it with: pip install {package}."


def _read(text: str, option: str, known: Collection[str], allowed: str) -> str:
    """An address with its scheme in lower case, or a path unchanged."""
    text = text.strip()
    remember(text)
    if not text:
        _reject(option, "''", f"is empty. Allowed: {allowed}".removesuffix("."))
    if any(not character.isprintable() for character in text):
        _reject(option, text, "contains a control character")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _read_path(text, option, known, allowed)
    scheme = re.sub(r"^postgres(?=\+|$)", POSTGRESQL, scheme.lower())
    kind = scheme.partition("+")[0]
    if kind not in known:
        _reject_scheme(option, text, kind, known, allowed)
    url = f"{scheme}://{rest}"
    if kind in SERVERS:
        _require_server(url, option)
    elif kind in DATABASES:
        _require_database(rest, kind, option, text)
    elif kind == "sqlite" and (not rest.startswith("/") or rest.partition("?")[0] in ("/", "/:memory:")
                               or "mode=memory" in rest):
        file = rest.strip("/") if rest.strip("/") and "memory" not in rest else "FILE"
        _reject(option, text, f"names no file. An SQLite file is written sqlite:///{file}")
    elif kind == "file" and not re.match("(localhost)?/", rest):
        _reject(option, text, f"names a folder of another machine. A folder is written {FORMS['file']}")
    return url


def _read_path(text: str, option: str, known: Collection[str], allowed: str) -> str:
    """Handles text without ``://``: a path, unless it is a mistyped address."""
    found = LIKE_A_SCHEME.match(text)
    kind = found[1].lower().partition("+")[0] if found else text.lower()
    has_own_form = kind in _plugins() or (found and kind == "file") or text == DATABRICKS
    if is_path(text) or os.path.exists(text) or (has_own_form and kind in known):
        return text
    if HOST_AND_PORT.fullmatch(text):
        _reject(option, text, f"has no scheme. Allowed: {allowed}")
    kind = POSTGRESQL if kind == "postgres" else kind
    if kind in FORMS and kind in known:
        _reject(option, text, f"is not an address. It is written {FORMS[kind]}")
    if kind in (*FORMS, DATABRICKS) or (found and found[2] == ":") or (found and _nearest(kind, known, 0.75)):
        _reject_scheme(option, text, kind, known, allowed)
    if LIKE_A_LOGIN.search(text) or ASSIGNED.search(text):
        _reject(option, text, f"looks like an address but is malformed. Allowed: {allowed}")
    return text


def _require_server(url: str, option: str) -> None:
    """Raises a RequestError if an HTTP address has no valid host."""
    kind, _, rest = url.partition("://")
    userinfo, place = split_userinfo(rest)
    if re.search("[/?#]", userinfo.partition(":")[2]) and not re.match(r"[^/?#]*:\d+/", rest):  # no host:port/path
        _reject(option, url, "has a password with a / ? or #, which is written %2F, %3F or %23")
    try:
        parts = urlsplit(f"{kind}://{place}")
        host, _ = parts.hostname, parts.port  # reading the port validates it
    except ValueError as error:
        _reject(option, url, f"cannot be read: {error}")
    if not host or re.search(r"\s", place):
        _reject(option, url, f"names no host. It is written {FORMS[kind]}")
    if parts.query or parts.fragment:
        page = f"{kind}://{f'{userinfo}@' if userinfo else ''}{parts.netloc}{parts.path}".rstrip("/")
        _reject(option, url, f"is the address of a page. The server's own is {without_password(page)}")


def _require_database(rest: str, kind: str, option: str, text: str) -> None:
    """Raises a RequestError if a database address names no database."""
    userinfo, place = split_userinfo(rest)
    if "@" in userinfo.partition(":")[2]:
        _reject(option, text, "has a password with an @, which is written %40")
    path, _, query = place.partition("?")
    named = {part.partition("=")[0].lower() for part in query.split("&")}
    if not path.partition("/")[2] and not named & NAMES_DATABASE:
        _reject(option, text, f"names no database. It is written {FORMS[kind]}")


def _reject(option: str, text: str, why: str) -> NoReturn:
    raise RequestError(f"{option} {without_password(text)} {why}.")


def _reject_scheme(option: str, text: str, kind: str, known: Collection[str], allowed: str) -> NoReturn:
    nearest = _nearest(kind, known)
    more = f" Did you mean {nearest}?" if nearest else ""
    if not more and "://" not in text and "@" not in text:
        more = f" A file of this name is written ./{text}"
    raise RequestError(f"{option} {without_password(text)}: allowed are {allowed}.{more}")


def _nearest(kind: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
    return next(iter(difflib.get_close_matches(kind, known, n=1, cutoff=cutoff)), None)


@cache
def _plugins() -> set[str]:
    """Schemes of the tracking stores that MLflow plugins provide."""
    return {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}


def _location(url: str) -> tuple[Any, ...]:
    """Host, port and database of a PostgreSQL address, from the URL or its query."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):  # opening it reports what is wrong
        return (url,)
    query = {name: value for name, value in parts.query.items() if isinstance(value, str)}
    host = parts.host or query.get("host") or query.get("hostaddr") or "localhost"
    is_here = host in LOCAL_HOSTS or host.startswith("/") or host.lower() in (socket.gethostname(), socket.getfqdn())
    user = parts.username or query.get("user") or os.environ.get("PGUSER") or getpass.getuser()
    return ("localhost" if is_here else host.lower(), int(parts.port or query.get("port") or POSTGRESQL_PORT),
            parts.database or query.get("dbname") or user)


def absolute(url: str) -> str:
    """The address of a database with an absolute path, independent of the current folder."""
    file = sqlite_file(url)
    if file is None:
        return url
    prefix, mark, options = url.partition("?")
    return f"{sqlite_url(file, prefix.partition(':')[0])}{mark}{options}"


def sqlite_url(file: Path, scheme: str = "sqlite") -> str:
    """The address of an SQLite file. Its path is encoded no more than necessary, because MLflow does not decode it."""
    from sqlalchemy.engine import make_url

    decodes = make_url("sqlite:///%25").database == "%"
    path = str(file).replace("%", "%25").replace("?", "%3F") if decodes else str(file)
    return f"{scheme}:///{path}"


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite address; None for other addresses."""
    if not url.startswith("sqlite") or "://" not in url:
        return None
    from sqlalchemy.engine import make_url

    path = make_url(url).database  # only SQLAlchemy knows whether its version decodes %20
    return None if path in (None, "", ":memory:") else resolved(os.path.expanduser(path))
