"""Options of the whole suite."""

from __future__ import annotations

import resource
import signal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import engine

# No test judges a time: a busy machine must not fail one.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A failure is made smaller for so many seconds and then told as it is. Hypothesis' own five minutes are more than the
# time that a test has: it would be stopped for being late, and nobody would learn what failed.
engine.MAX_SHRINKING_SECONDS = 30

# Floods of connections begin and end in this process; many machines allow 1024 files unless asked.
_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))

# A suite that a script runs in the background inherits an ignored Ctrl-C, and under nohup an ignored end of its
# terminal; so would the commands that it tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is rendered as the golden files")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written rather than compared."""
    return bool(request.config.getoption("--update-golden"))
