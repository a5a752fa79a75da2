"""What holds for every test."""

from __future__ import annotations

import os

import pytest

# The readline library tells children how large it takes the terminal to be, in the environment of the C library, which
# os.environ does not show. Programs under test believe it more than their own terminal.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)
    os.unsetenv(_name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything has to be there ($MINIKERN_ALL_TESTS), a test that was skipped is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and os.environ.get("MINIKERN_ALL_TESTS") and reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped, and MINIKERN_ALL_TESTS is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
