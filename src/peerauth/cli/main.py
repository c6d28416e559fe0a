"""The entry point: a group whose commands are imported when they are called, and what every command shares.

`COMMANDS` is the registry; a command is one line in it. Nothing here may import what `peerauth --help` does not need:
rich, grpc, protobuf and cryptography cost more to import than the help costs to print. Errors leave through one door,
as `error: ...` on standard error. Exit codes: 0 fine, 1 findings or a refused expectation, 2 bad input or usage,
130 interrupted, 141 the reader of a pipe went away.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click

from peerauth.cli.visible import complaint
from peerauth.errors import PeerAuthError

BAD_INPUT = 2
INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell reports for a process that SIGPIPE ended


class Command(NamedTuple):
    """One command: `target` is `module:attribute`, `summary` its line in the help."""

    target: str
    summary: str


COMMANDS: Mapping[str, Command] = {
    "explain": Command("peerauth.cli.offline:explain", "The effective mode of every port, and why."),
    "check": Command("peerauth.cli.offline:check", "What is wrong or surprising in the policies, with fixes."),
    "up": Command("peerauth.cli.online:up", "Run the mesh of the documents on this machine, with real Envoys."),
    "probe": Command("peerauth.cli.online:probe", "Connect as every kind of client; compare with the policy."),
}


class _ReaderGoneError(Exception):
    """Whoever read the output has closed the pipe."""


class _InterruptedError(Exception):
    """Ctrl-C, or what means the same."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the registry: the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, imported now."""
        known = COMMANDS.get(cmd_name)
        if known is None:
            return None
        module, attribute = known.target.split(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{known.target} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` name; an unknown name is answered with the nearest known one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            nearest = difflib.get_close_matches(name, COMMANDS, n=1)
            guess = f" Did you mean '{nearest[0]}'?" if nearest else f" The commands are {', '.join(COMMANDS)}."
            raise click.UsageError(f"there is no command '{name}'.{guess}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the registry alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click would end the process with 1, a finding, where the reader of a pipe went away, and
        would wait for who reads standard error where it was interrupted.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _ReaderGoneError from error
        except KeyboardInterrupt as error:
            raise _InterruptedError from error
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; outside of tests of the parser, end the process with its exit code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        sys.exit(self._run(args, prog_name, complete_var, **extra))

    def _run(self, args: Sequence[str] | None, prog_name: str | None, complete_var: str | None, **extra: Any) -> int:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            _say_usage(error)
            return BAD_INPUT
        except PeerAuthError as error:
            click.echo(complaint(error.message, hint=error.hint), err=True, nl=False)
            return BAD_INPUT
        except (click.Abort, KeyboardInterrupt, _InterruptedError):
            from peerauth.cli.outlet import last_words  # noqa: PLC0415  (needs what the help does not)

            last_words("\ninterrupted\n")
            return INTERRUPTED
        except _ReaderGoneError:
            _forget_stdout()
            return BROKEN_PIPE
        return code if isinstance(code, int) else 0


def _say_usage(error: click.ClickException) -> None:
    """State a usage error the way every other error is stated, and where the help is."""
    click.echo(complaint(error.format_message()), err=True, nl=False)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(f"  hint: {error.ctx.command_path} --help", err=True)


def _forget_stdout() -> None:
    """Point standard output elsewhere, so that the interpreter's last flush does not fail a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import version  # noqa: PLC0415  (slow to import, and needed here only)

    click.echo(f"peerauth {version('peerauth')}")
    ctx.exit()


EPILOG = """\b
Examples:
  peerauth explain -f manifests/                   every workload: its mode, its ports, the reasons
  peerauth explain foo/finance:8080 -f manifests/  one port
  kubectl get peerauthentication,namespace,pod,service -A -o yaml | peerauth check -f -
  peerauth check -f manifests/ --require strict    fail unless every port of the mesh is STRICT
  peerauth up examples/finance --apps --once       run the mesh here and prove every port
  peerauth probe foo/finance:8080                  dial one port of a running `peerauth up`

\b
Exit codes: 0 fine, 1 findings or a refused expectation, 2 bad input or usage.
"""


@click.group(
    cls=LazyGroup,
    name="peerauth",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print the version."
)
def cli() -> None:
    """Istio's PeerAuthentication: what every port of every workload does with a connection, why, and whether it does.

    PeerAuthentication says whether a connection that arrives at a workload may (PERMISSIVE), must (STRICT) or must not
    (DISABLE) be mutual TLS. Give the manifests as they are.
    """


def main() -> None:
    """The `peerauth` script."""
    cli(prog_name="peerauth")
