"""guard config: check, show and document the configuration."""

from __future__ import annotations

from pathlib import Path

import click

from guard.cli._output import plain, say, show_json
from guard.config import POLICIES, Settings, load_policy, load_settings, struct_schema
from guard.errors import ConfigError, Exit


@click.group()
def config() -> None:
    """Check, show and document the configuration.

    \b
    Example: guard config check
    """


def _path() -> Path:
    return click.get_current_context().find_root().params["config"] or Path("guard.toml")


@config.command()
def check() -> int:
    """Read guard.toml and every policy, and name every mistake in them.

    \b
    Example: guard config check
    """
    path = _path()
    if not path.exists():
        load_settings(path)  # says so, and what to do
    problems, read = [], []
    folder = path.absolute().parent / "policies"
    try:
        folder = path.absolute().parent / load_settings(path).policies
    except ConfigError as error:
        problems.append(str(error))
    for name, shape in POLICIES.items():
        if name == "catalog" and not (folder / "catalog.toml").exists():
            say(f"{folder / 'catalog.toml'} is not there yet: guard data scan proposes one")
            continue
        try:
            load_policy(folder, name, shape)
            read.append(name)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    if click.get_current_context().find_root().params["as_json"]:
        show_json({"config": path.absolute(), "policies": read})
    else:
        say(f"{path} and {len(read)} policies are in order")
    return Exit.DONE


@config.command()
def show() -> None:
    """Print the settings in force, defaults included. Secrets are shown as where they lie.

    \b
    Example: guard --json config show
    """
    settings = plain_struct(load_settings(_path()))
    if click.get_current_context().find_root().params["as_json"]:
        show_json(settings)
        return
    for line in _lines("", settings):
        click.echo(line)


def plain_struct(value: object) -> object:
    """Return a struct of settings as JSON types."""
    import msgspec  # noqa: PLC0415  # keeps --help light

    return plain(msgspec.to_builtins(value, enc_hook=str))


def _lines(path: str, value: object) -> list[str]:
    if isinstance(value, dict):
        return [line for key, each in value.items() for line in _lines(f"{path}.{key}".lstrip("."), each)]
    if isinstance(value, list):
        return [line for number, each in enumerate(value, 1) for line in _lines(f"{path}[{number}]", each)]
    return [f"{path} = {value if value is not None else '-'}"]


@config.command()
@click.argument("name", type=click.Choice(["guard", *POLICIES]), default="guard")
def schema(name: str) -> None:
    """Print the JSON Schema of guard.toml or of a policy, for editors.

    \b
    Example: guard config schema retention > retention.schema.json
    """
    show_json(struct_schema(Settings if name == "guard" else POLICIES[name]))
