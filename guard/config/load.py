"""Read TOML into the structs of this room. Collects every mistake before it complains."""

import difflib
import os
import threading
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from guard.config.catalog import Catalog
from guard.config.settings import Settings
from guard.config.span import Span
from guard.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)

_ONE_AT_A_TIME = threading.RLock()
"""msgspec 0.22 crashes where two threads meet a type for the first time."""
os.register_at_fork(
    before=_ONE_AT_A_TIME.acquire, after_in_parent=_ONE_AT_A_TIME.release, after_in_child=_ONE_AT_A_TIME.release
)

_NO_SETTINGS = (
    "run `guard init` to make one, or name it with --config; if it is lost with its state, runbooks/lost-state.md"
    " says how both come back"
)

_NO_TOML = (
    'look at that line and the one before it: texts stand in "quotes", lists in [brackets] with commas, a [table] on a'
    " line of its own; then guard config check"
)


def load_settings(path: Path) -> Settings:
    """Read `guard.toml`. Raises ConfigError naming every mistake in it."""
    settings = _load(path, Settings, hint=_NO_SETTINGS)
    problems = [
        f"{path}: {where}: a password does not belong in this file"
        for where, url in (("shop.url", settings.shop.url), ("state.url", settings.state.url))
        if isinstance(url, str) and urlsplit(url).password
    ]
    if problems:
        raise ConfigError(
            "\n".join(problems), hint='write url = {file = "keys/shop.url"} or {env = "SHOP_URL"} instead'
        )
    return settings


def load_policy(folder: Path, name: str, shape: type[T]) -> T:
    """Read `folder/name.toml` as `shape`. Raises ConfigError naming every mistake in it."""
    return _load(folder / f"{name}.toml", shape, hint=f"`guard init` in a new folder writes a default {name}.toml")


def load_catalog(folder: Path) -> Catalog:
    """Read `folder/catalog.toml`; a catalog without columns when there is none yet."""
    path = folder / "catalog.toml"
    return _load(path, Catalog, hint=None) if path.exists() else Catalog()


def load_file(path: Path, shape: type[T], hint: str | None = None) -> T:
    """Read the TOML file `path` as `shape`. Raises ConfigError naming every mistake in it."""
    return _load(path, shape, hint)


def load_bytes(raw: bytes, source: str, shape: type[T]) -> T:
    """Read TOML that was read already, from `source`. Raises ConfigError naming every mistake in it."""
    try:
        data = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source} is not valid TOML: {error}", hint=_NO_TOML) from error
    return decode(data, shape, source)


def struct_schema(shape: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a policy or of guard.toml."""
    return msgspec.json.schema(shape, schema_hook=_schema_hook)


def decode(data: Mapping[str, Any], shape: type[T], source: str) -> T:
    """Convert parsed TOML. Raises ConfigError naming every mistake, each as `source: key.path: what`."""
    with _ONE_AT_A_TIME:
        problems = [f"{source}: {path or 'top level'}: {text}" for path, text in _problems(dict(data), shape, "")]
        if problems:
            raise ConfigError("\n".join(problems))
        return msgspec.convert(data, shape, dec_hook=_dec_hook)


def _load(path: Path, shape: type[T], hint: str | None) -> T:
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist", hint=hint) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint=_NO_TOML) from error
    return decode(data, shape, str(path))


def _problems(value: object, kind: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield (key path, what is wrong) for everything below `value`, which should be a `kind`."""
    origin, inner = get_origin(kind), get_args(kind)
    structs = [each for each in (*inner, kind) if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    if origin is tuple and isinstance(value, list):
        for number, each in enumerate(value, 1):
            yield from _problems(each, inner[0], f"{path}[{number}]")
    elif origin is dict and isinstance(value, dict):
        for key, each in value.items():
            yield from _problems(each, inner[1], f"{path}.{key}".lstrip("."))
    elif structs and isinstance(value, dict):
        yield from _struct_problems(value, structs[0], path)
    else:
        yield from _wrong(value, kind, path)


def _struct_problems(value: dict[str, object], kind: type[msgspec.Struct], path: str) -> Iterator[tuple[str, str]]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    below = [
        (here, problem)
        for key, each in value.items()
        for here, problem in (
            _problems(each, fields[key].type, f"{path}.{key}".lstrip("."))
            if key in fields
            else [(f"{path}.{key}".lstrip("."), "unknown key" + _nearest(key, fields))]
        )
    ]
    missing = [
        (f"{path}.{name}".lstrip("."), "is missing")
        for name, field in fields.items()
        if field.required and name not in value
    ]
    yield from below + missing or _wrong(value, kind, path)


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f'; did you mean "{near[0]}"?' if near else f"; known here: {', '.join(sorted(known))}"


def _wrong(value: object, kind: Any, path: str) -> Iterator[tuple[str, str]]:
    try:
        msgspec.convert(value, kind, dec_hook=_dec_hook)
    except msgspec.ValidationError as error:
        yield path, str(error).split(" - at `")[0]


def _dec_hook(kind: type, value: object) -> object:
    if kind is Span and isinstance(value, str):
        return Span.parse(value)
    raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")


def _schema_hook(kind: type) -> dict[str, Any]:
    if kind is Span:
        return {"type": "string", "description": 'a length of time such as "30 days" or "10 years"'}
    raise NotImplementedError(kind)
