"""A short run of the fuzzer, always the same; tests/support/metalbond_fuzz.py tells how to run it for long."""

from collections.abc import Iterator

import pytest
import structlog

from tests.support.metalbond_fuzz import Fuzzer


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False)
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_sessions_harm_nobody(seed: int) -> None:
    fuzzer = Fuzzer(seed)
    try:
        fuzzer.run(4000)
        assert fuzzer._server.stats.sessions_established > 500, "inputs come past the handshake"
        assert fuzzer._server.stats.updates_received > 500
        assert fuzzer._server.stats.updates_refused["invalid"] > 0
        reasons = set(fuzzer._server.stats.sessions_lost)
        assert {"bad_version", "unknown_type", "payload_too_long", "bad_payload", "wrong_role"} <= reasons
    finally:
        fuzzer.close()
