"""What the load's clients and its sampler read: gRPC-web frames, the words of refusals, folded stacks."""

import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from tests.load.frames import HEAD, TRAILERS, framed, opened
from tests.load.spy import read
from tests.load.words import word_of


def details(reason: str) -> bytes:
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="catraca.dev"))
    return status_pb2.Status(code=9, details=[packed]).SerializeToString()


def test_an_answer_is_its_message_and_its_trailers() -> None:
    trailers = b"grpc-status: 0\r\ngrpc-message: fine: really\r\n"
    body = framed(b"message") + HEAD.pack(TRAILERS, len(trailers)) + trailers
    assert opened(body) == (b"message", {"grpc-status": "0", "grpc-message": "fine: really"})
    assert opened(b"") == (b"", {})


@pytest.mark.parametrize(
    ("code", "said", "word"),
    [
        (0, None, "OK"),
        (9, details("NOT_CALLED_YET"), "NOT_CALLED_YET"),
        (13, details("INTERNAL"), "INTERNAL"),
        # What did not come from a service of ours has a status only.
        (13, None, "INTERNAL"),
        (2, b"\xff not a status", "UNKNOWN"),
        (99, None, "UNKNOWN"),
        (4, None, "DEADLINE"),
        (8, None, "OVERLOADED"),
        (14, None, "UNAVAILABLE"),
    ],
)
def test_a_refusal_is_called_by_its_reason_else_by_its_status(
    code: int, said: bytes | None, word: str
) -> None:
    assert word_of(code, said) == word


def test_samples_are_added_up_by_function_whatever_its_line() -> None:
    folded = "\n".join(
        [
            "main (app.py:1);run (loop.py:7);work (rules.py:30) 6",
            "main (app.py:1);run (loop.py:9);work (rules.py:31) 2",
            "main (app.py:1);run (loop.py:9) 2",
        ]
    )
    samples, functions = read(folded)
    assert samples == 10
    assert functions == [
        ("work (rules.py)", 0.8, 0.8),
        ("run (loop.py)", 0.2, 1.0),
        ("main (app.py)", 0.0, 1.0),
    ]


def test_a_function_that_calls_itself_counts_once() -> None:
    assert read("f (a.py:1);f (a.py:2) 4") == (4, [("f (a.py)", 1.0, 1.0)])


def test_a_thread_that_waits_uses_nothing_and_native_code_counts_for_its_caller() -> None:
    folded = "\n".join(
        [
            "run (loop.py:9);uv_run (core.c:10);epoll_pwait (libc.so.6) 70",
            "run (threading.py:9);0x7f00 (grpc/cygrpc.so);pthread_cond_timedwait (libc.so.6) 20",
            "run (loop.py:9);read (<frozen codecs>:2);0x7f00 (grpc/cygrpc.so);sendmsg (libc.so.6) 3",
            "run (loop.py:9);uv_run (core.c:10) 6",
            "0x7f00 (grpc/cygrpc.so) 1",
        ]
    )
    assert read(folded) == (
        10,
        [
            ("run (loop.py)", 0.6, 0.9),
            ("read (<frozen codecs>)", 0.3, 0.3),
            ("threads without Python", 0.1, 0.1),
        ],
    )
