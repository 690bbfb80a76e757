from hypothesis import given
from hypothesis import strategies as st

from metalbond.pacing import TokenBucket


@given(
    st.floats(1, 1e6),
    st.integers(1, 100_000),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 1192)), max_size=50),
)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, writes: list[tuple[float, int]]) -> None:
    now, written, bucket = 0.0, 0, TokenBucket.full(rate, burst, 0.0)
    for pause, size in writes:
        now += pause
        bucket = bucket.refill(now)
        assert bucket.tokens <= burst
        if bucket.tokens >= size:
            bucket = bucket.take(size)
            written += size
            assert written <= burst + rate * now + 1e-3


@given(st.floats(1, 1e6), st.integers(1, 100_000), st.integers(1, 200_000))
def test_after_the_delay_the_bytes_are_there(rate: float, burst: int, overdraft: int) -> None:
    bucket = TokenBucket.full(rate, burst, 0.0).take(overdraft)
    size = min(burst, 1192)
    later = bucket.refill(bucket.delay(size) * (1 + 1e-9) + 1e-6)
    assert later.tokens >= size - 1e-3
    assert later.delay(size) < 1e-3
    if overdraft <= burst - size:
        assert bucket.delay(size) == 0
