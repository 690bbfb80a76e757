"""The region all end-to-end tests share, the logs of a failed one, and a table of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.lab.process import Process
from tests.lab.region import GUESTS, Region

# Lines per process that come with a failure.
_LOG_LINES = 40
_LOG_WIDTH = 300
_PROCESSES = pytest.StashKey[list[Process]]()
_LOG_STARTS = pytest.StashKey[dict[str, int]]()
_MEASURED = pytest.StashKey[list[tuple[str, str]]]()

Measure = Callable[[str, str], None]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_PROCESSES] = []
    config.stash[_MEASURED] = []


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    region = Region("t", tmp_path_factory.mktemp("lab"), guests=GUESTS)
    request.config.stash[_PROCESSES] += region.stack.processes()
    try:
        region.up()
        yield region
    finally:
        region.down()


@pytest.fixture
def region(lab: Region) -> Region:
    """The shared region with everything running: two hypervisors, six guests with addresses, two networks."""
    lab.repair()
    return lab


@pytest.fixture
def cold_region(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    """A region of its own with one hypervisor and two guests: wires only, nothing was ever started. Daemons log all."""
    guests = {"vm1": 1, "vm2": 1}
    region = Region(
        "t2", tmp_path_factory.mktemp("cold"), guests=guests, hypervisors=1, daemon_options=("--log-level", "debug")
    )
    request.config.stash[_PROCESSES] += region.stack.processes()
    try:
        region.build()
        yield region
    finally:
        region.down()


@pytest.fixture
def measure(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Measure:
    """Note a measured value: it goes into the test's properties and the terminal summary."""

    def note(what: str, value: str) -> None:
        record_property(what, value)
        request.config.stash[_MEASURED].append((what, value))

    return note


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_LOG_STARTS] = {str(p.log_path): p.log_size() for p in item.config.stash[_PROCESSES]}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if not report.failed:
        return
    starts = item.stash.get(_LOG_STARTS, {})
    for process in item.config.stash[_PROCESSES]:
        lines = process.log_since(starts.get(str(process.log_path), 0)).splitlines()
        if lines:
            report.sections.append(
                (f"log of {process.name}", "\n".join(line[:_LOG_WIDTH] for line in lines[-_LOG_LINES:]))
            )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    measured = config.stash[_MEASURED]
    if measured:
        terminalreporter.section("measured end to end")
        for what, value in measured:
            terminalreporter.write_line(f"{what}: {value}")
