"""A click group whose commands are imported when called: `guard --help` stays fast."""

import importlib
from collections.abc import Mapping

import click


class LazyGroup(click.Group):
    """Lists `table` (command -> (module, help line)) and imports a module only to run its command.

    The module holds a click command of the command's own name.
    """

    def __init__(self, *args: object, table: Mapping[str, tuple[str, str]], **extra: object) -> None:
        super().__init__(*args, **extra)  # type: ignore[arg-type]
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None when there is no such."""
        if cmd_name not in self.table:
            return None
        module = importlib.import_module(self.table[cmd_name][0])
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])
