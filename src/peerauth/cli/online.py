"""`up` and `probe`: the commands that open sockets. The work is in `runtime/`; here it meets the terminal."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from peerauth.agent.ztunnel import SHORTEST_LIFETIME
from peerauth.cli.jsontext import write_json
from peerauth.cli.live import Machine, ProofStory, story_of
from peerauth.cli.offline import Target, TargetType
from peerauth.cli.outlet import LogHandler
from peerauth.cli.proved import proof_lines
from peerauth.cli.render import writer
from peerauth.cli.visible import complaint
from peerauth.errors import PeerAuthError
from peerauth.local.proof import report_document
from peerauth.model.placement import Capture
from peerauth.model.schema.meshconfig import go_duration
from peerauth.runtime import probing, settings
from peerauth.runtime.up import Options
from peerauth.runtime.up import up as run_up

FINE, REFUTED, BAD_INPUT = 0, 1, 2
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill`, and a terminal that is closed."""

T = TypeVar("T")


class Duration(click.ParamType[timedelta]):
    """A time as Go and Kubernetes write it."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The time, or a usage error that shows the form."""
        found = value if isinstance(value, timedelta) else go_duration(str(value))
        if found is None or found < timedelta(seconds=2):
            self.fail(f"'{value}' is not a time of at least 2s, such as 24h, 90m or 30s", param, ctx)
        return found


STATE = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where the authority's keys are kept (default: $XDG_STATE_HOME/peerauth).",
)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--apps", is_flag=True, help="Run a small echo application behind every declared port.")
@click.option("--once", is_flag=True, help="Probe every port as every kind of client, print the table, and stop.")
@click.option(
    "--capture",
    type=click.Choice([kind.value for kind in Capture]),
    default=Capture.EXPLICIT.value,
    show_default=True,
    help="explicit: loopback addresses, no root, declared ports. transparent: a network namespace per workload, root, "
    "every port.",
)
@click.option(
    "--ca",
    "authority",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Use your own authority: ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem.",
)
@click.option(
    "--ztunnel",
    type=click.Path(exists=True, dir_okay=False, executable=True, resolve_path=True, path_type=Path),
    metavar="FILE",
    help="Serve ambient workloads with this binary of Istio's ztunnel instead of an Envoy; for transparent capture.",
)
@click.option(
    "--certificate-lifetime",
    type=Duration(),
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long workload certificates live; they are renewed between half and eight tenths of it.",
)
@STATE
@click.option("-v", "--verbose", is_flag=True, help="Log what the control plane and the agents do.")
def up(
    *,
    paths: tuple[str, ...],
    apps: bool,
    once: bool,
    capture: str,
    authority: Path | None,
    ztunnel: Path | None,
    certificate_lifetime: timedelta,
    state: Path | None,
    verbose: bool,
) -> int:
    """Run the mesh of the given documents on this machine: an authority, a control plane, an Envoy per sidecar.

    The documents are watched: an edit takes effect on the running proxies, an edit with errors is reported and changes
    nothing. Stop with Ctrl-C; everything that was started is stopped with it.

    \b
    Examples:
      peerauth up examples/finance --apps --once      prove every port on real connections
      peerauth up examples/finance --apps             keep it running; probe it from another terminal
      peerauth up mesh.yaml policies/ --apps          several files and folders
      peerauth up examples/finance --apps --capture transparent   as root: every port, declared or not

    \b
    Exit codes: 0 fine, 1 a connection did not do what the policy says, 2 bad input, or this machine lacks something.
    """
    if ztunnel is not None:
        _check_ztunnel(Capture(capture), certificate_lifetime)
    machine = Machine(Capture(capture)) if ztunnel is None else Machine(Capture(capture), node_proxy="ztunnel")
    story = story_of(machine, once=once)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        format="%(levelname)s %(name)s: %(message)s",
        handlers=[LogHandler(story.err)],
    )
    options = Options(
        paths=paths,
        capture=Capture(capture),
        applications=apps,
        once=once,
        authority=authority,
        certificate_lifetime=certificate_lifetime,
        ztunnel=ztunnel,
    )
    found = settings.from_environment(state=state)
    try:
        proved = _run(run_up(options, settings=found, narrator=story))
        if once:
            _deliver(story)
    except KeyboardInterrupt:
        if once:
            raise
        proved = True  # being stopped is how a run without --once is meant to end
    except PeerAuthError as error:
        story.err.say(complaint(error.message, hint=error.hint))
        return BAD_INPUT
    finally:
        story.close()
    return FINE if proved else REFUTED


@click.command()
@click.argument("target", type=TargetType(), required=False)
@click.option("--address", metavar="ADDRESS", help="Dial this address instead of a running `peerauth up`.")
@click.option("-f", "--file", "paths", multiple=True, metavar="PATH", help="The documents that say what must happen.")
@click.option(
    "--certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Chain to present (PEM)."
)
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its private key (PEM).")
@click.option("--roots", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The mesh's roots (PEM).")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@STATE
def probe(
    *,
    target: Target | None,
    address: str | None,
    paths: tuple[str, ...],
    certificate: Path | None,
    key: Path | None,
    roots: Path | None,
    output: str,
    state: Path | None,
) -> int:
    """Connect to ports as every kind of client and compare what happens with what the policy says.

    Plaintext, TLS without a certificate, mutual TLS of the mesh, of another authority and of another trust domain,
    HBONE. Without --address it probes the mesh that `peerauth up` runs on this machine. A port that does not
    answer is never reported as one that refuses.

    \b
    Examples:
      peerauth probe                               every port of the running mesh
      peerauth probe foo/finance:8080              one port
      peerauth probe foo/finance:8080 --address 10.0.0.7 -f manifests/ \\
          --certificate chain.pem --key key.pem --roots root.pem       a port of any mesh
    """
    found = settings.from_environment(state=state)
    if address is None:
        reports = _run(probing.probe_running(target, paths=paths, settings=found))
    else:
        presented = probing.given_credentials(certificate=certificate, key=key, roots=roots)
        if target is None or target.port is None or not paths:
            raise click.UsageError("--address needs NAMESPACE/NAME:PORT and -f, to know what must happen there")
        reports = _run(probing.probe_address(target, target.port, address=address, paths=paths, presented=presented))
    if output == "json":
        write_json(report_document(reports))
    else:
        write = writer()
        write(proof_lines(reports))
    return FINE if reports and all(report.ok for report in reports) else REFUTED


def _deliver(story: ProofStory) -> None:
    """Waits for whoever reads the proof."""
    try:
        story.deliver()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PeerAuthError(f"the proof could not be written: {error.strerror}") from error


def _check_ztunnel(capture: Capture, lifetime: timedelta) -> None:
    """Raises a usage error for options that a ztunnel cannot be run with."""
    if capture is not Capture.TRANSPARENT:
        raise click.UsageError("--ztunnel needs --capture transparent: it is handed network namespaces")
    if lifetime < SHORTEST_LIFETIME:
        least = f"{SHORTEST_LIFETIME // timedelta(minutes=1)}m"
        raise click.UsageError(f"--ztunnel needs a --certificate-lifetime of {least} at least: it renews at half of it")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine so that the signals of `ENDING` end it by cancellation, cleaned up, as KeyboardInterrupt.

    From its end on they raise KeyboardInterrupt where they come.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a mesh of echo applications and a flood of clients
    ending = _Ending()

    async def main() -> T:
        ending.of_this_task()
        return await work

    try:
        result = asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except BaseExceptionGroup as group:
        raise _only_cause(group) from group
    finally:
        ending.of_no_task()
    if ending.told:  # while the loop was being closed
        raise KeyboardInterrupt
    return result


class _Ending:
    """What the signals of `ENDING` do. The loop's own handlers would swallow one that comes while it is closed."""

    def __init__(self) -> None:
        self.told = False
        # Under nohup a terminal that is closed ends nothing.
        self._numbers = [each for each in ENDING if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]

    def of_this_task(self) -> None:
        """They cancel the current task."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def end(number: int, _frame: object) -> None:
            # A terminal that is closed says so more than once: only Ctrl-C, pressed again, cuts the cleaning up short.
            if task is not None and not task.done() and (not self.told or number == signal.SIGINT):
                loop.call_soon_threadsafe(task.cancel)
            self.told = True

        for number in self._numbers:
            signal.signal(number, end)

    def of_no_task(self) -> None:
        """They raise KeyboardInterrupt."""
        for number in self._numbers:
            signal.signal(number, signal.default_int_handler)


def _only_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a task group, as the command line reports errors: one, said once."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
