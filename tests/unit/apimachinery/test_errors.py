import grpc
import pytest
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from apimachinery import errors

CLASSES = [
    errors.InvalidArgument,
    errors.NotFound,
    errors.AlreadyExists,
    errors.Conflict,
    errors.FailedPrecondition,
    errors.ResourceExhausted,
    errors.Unavailable,
    errors.Internal,
]


def rpc_error(error: errors.ApiError, code: grpc.StatusCode | None = None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code or error.code,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(*error.trailing_metadata()),
        details=error.details(),
    )


@given(
    st.sampled_from(CLASSES),
    st.text(max_size=20),
    st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=5),
    st.text(max_size=9),
)
def test_what_the_server_raises_is_what_the_client_gets(
    kind: type[errors.ApiError], message: str, violations: list[tuple[str, str]], exhausted: str
) -> None:
    sent = kind(
        message,
        violations=[errors.FieldViolation(*violation) for violation in violations],
        resource=errors.ResourceRef("networks.apinet", "default/a"),
        exhausted=exhausted,
        metadata={"limit": "5"},
    )
    got = errors.from_rpc_error(rpc_error(sent))
    assert type(got) is kind
    for name in ("code", "message", "violations", "reason", "resource", "exhausted", "metadata"):
        assert getattr(got, name) == getattr(sent, name)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_status_without_details_still_has_its_class(kind: type[errors.ApiError]) -> None:
    plain = grpc.aio.AioRpcError(kind.default_code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="why")
    assert type(errors.from_rpc_error(plain)) is kind
    assert str(errors.from_rpc_error(plain)) == "why"


def test_details_that_contradict_the_status_or_are_rubbish_do_not_count() -> None:
    sent = errors.NotFound("x")
    assert type(errors.from_rpc_error(rpc_error(sent, grpc.StatusCode.UNAVAILABLE))) is errors.Unavailable
    rubbish = grpc.aio.Metadata((errors.STATUS_DETAILS_KEY, b"\xff\xff"))
    error = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), rubbish, details="d")
    assert type(errors.from_rpc_error(error)) is errors.NotFound
    status = status_pb2.Status(code=5, message="m")
    status.details.add(type_url="type.googleapis.com/google.rpc.BadRequest", value=b"\xff")
    assert errors.from_status(status).violations == ()


def test_an_unknown_code_is_a_plain_api_error() -> None:
    error = grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.Metadata(), grpc.aio.Metadata())
    assert errors.from_rpc_error(error).code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_trailer_stays_below_what_clients_accept() -> None:
    violations = [errors.FieldViolation(f"spec.{'ü' * 5000}", "x" * 5000) for _ in range(1000)]
    error = errors.InvalidArgument("m" * 50_000, violations=violations, resource=errors.ResourceRef("t", "n" * 9999))
    # Base64 of the details, and percent-encoding of the text.
    assert len(error.trailing_metadata()[0][1]) * 4 / 3 + len(error.details().encode()) * 3 < 8192
    assert len(error.violations) == 1000


def test_text_lists_the_violations() -> None:
    error = errors.InvalidArgument("bad", violations=[errors.FieldViolation("a.b", "is required")])
    assert str(error) == "bad: a.b: is required"
