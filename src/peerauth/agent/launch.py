"""The few steps between fork and exec of a supervised process, run as a script of its own.

`python -I -S launch.py PARENT NETNS ENVIRONMENT ARGV...`: asks the kernel to kill this process when its parent dies,
makes sure that the parent has not died already, raises the limit of open files, enters the network namespace at NETNS
(empty: stays), and becomes ARGV with the environment of ENVIRONMENT's lines (`NAME=VALUE`) and nothing else. A script,
because code between fork and exec is not safe in a process with threads; standard library only, so that it starts in
milliseconds. The parent's *thread* counts for the kernel: start processes from the thread that runs the event loop.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000


def wrapped(argv: list[str], *, parent: int, netns: str = "", environment: dict[str, str] | None = None) -> list[str]:
    """The command line that runs `argv` through this script; values of variables have no line breaks."""
    lines = "\n".join(f"{name}={value}" for name, value in (environment or {}).items())
    return [sys.executable, "-I", "-S", __file__, str(parent), netns, lines, *argv]


def main(parent: int, netns: str, environment: dict[str, str], argv: list[str]) -> None:
    """Never returns: becomes `argv`, or exits with a sentence on standard error."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"cannot tie the process to its parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each connection takes two files
    try:
        if netns and libc.setns(os.open(netns, os.O_RDONLY | os.O_CLOEXEC), CLONE_NEWNET) != 0:
            sys.exit(f"cannot enter {netns}: {os.strerror(ctypes.get_errno())}")
        os.execve(argv[0], argv, environment)  # noqa: S606  an argument list, no shell
    except OSError as error:
        sys.exit(f"cannot start: {error}")


if __name__ == "__main__":
    variables = dict(line.split("=", 1) for line in sys.argv[3].split("\n") if line)
    main(int(sys.argv[1]), sys.argv[2], variables, sys.argv[4:])
