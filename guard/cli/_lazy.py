"""A click group whose commands are imported when called, so that `guard --help` stays fast.

Its own options may stand anywhere on the line: `guard status --json` is `guard --json status`.
"""

import importlib
from collections.abc import Callable, Mapping

import click

from guard.cli._remote import ARGV


class LazyGroup(click.Group):
    """Lists `table` (command -> (module, help line)) and imports a module only to run its command.

    The module holds a click command of the command's own name.
    """

    def __init__(self, *args: object, table: Mapping[str, tuple[str, str]], **extra: object) -> None:
        super().__init__(*args, **extra)  # type: ignore[arg-type]
        self.table = table
        self.prepare: Callable[[str, click.Command], click.Command] | None = None
        """Changes a command after its import; the agent's process sets it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the line after moving this group's own options in front of the command."""
        ctx.meta[ARGV] = self._own_first(args, without="config")
        return super().parse_args(ctx, self._own_first(args))

    def _own_first(self, args: list[str], without: str | None = None) -> list[str]:
        own = {name: param for param in self.params if isinstance(param, click.Option) for name in param.opts}
        front: list[str] = []
        rest: list[str] = []
        left = iter(args)
        for word in left:
            if word == "--":
                rest += [word, *left]
                break
            option = own.get(word.split("=")[0]) if word.startswith("--") else None
            if option is None:
                rest.append(word)
            else:
                taken = (
                    [] if option.is_flag or "=" in word else [each for each in [next(left, None)] if each is not None]
                )
                front += [] if option.name == without else [word, *taken]
        return front + rest

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """Import and return a command; None when there is no such."""
        if cmd_name not in self.table:
            return None
        module = importlib.import_module(self.table[cmd_name][0])
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)  # noqa: S101
        return command if self.prepare is None else self.prepare(cmd_name, command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, as every group does, and for a misspelled one name the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            import difflib  # noqa: PLC0415  # keeps --help light

            near = difflib.get_close_matches(error.command_name, self.table, 1)
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=near, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])
