"""Refusals: what may be refused, how it is told, and which exceptions are refusals too."""

import importlib

import grpc
import grpc.aio
import pytest

from services.kit.errors import (
    EXCEPTIONS,
    Refusal,
    refusal_for,
    refusal_of,
    refuse_word,
    trailing_metadata_of,
)


def as_call_error(refusal: Refusal) -> grpc.aio.AioRpcError:
    """What a client of a service meets when the service refuses."""
    trailing = grpc.aio.Metadata(*trailing_metadata_of(refusal))
    return grpc.aio.AioRpcError(refusal.code, grpc.aio.Metadata(), trailing, refusal.message)


def bare_call_error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


@pytest.mark.parametrize("word", ["NO_SUCH_WORD", "UNSPECIFIED", "REASON_SOLD_OUT", "QUEUE_TIMEOUT", ""])
def test_only_reasons_that_are_statuses_can_be_refused_with(word: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a reason"):
        Refusal(word)


def test_a_refusal_is_read_back_as_it_was_told() -> None:
    told = Refusal(
        "SECTION_SOLD_OUT", "Nothing left in the stalls.", section="stalls", left=0, **{"left.pit": "3"}
    )
    read = refusal_of(as_call_error(told))
    assert read is not None
    assert (read.word, read.message, read.retry_after_s) == (told.word, told.message, None)
    assert read.metadata == {"section": "stalls", "left": "0", "left.pit": "3"}


@pytest.mark.parametrize(("given", "told"), [(None, 1.0), (2.5, 2.5), (0.001, 0.001)])
def test_the_hint_to_try_again_travels(given: float | None, told: float) -> None:
    read = refusal_of(as_call_error(Refusal("OVERLOADED", retry_after_s=given)))
    assert read is not None
    assert read.retry_after_s == told


def test_metadata_may_be_named_like_a_parameter() -> None:
    assert Refusal("INVALID_FIELD", field="x", word="w", message="m").metadata["message"] == "m"


def test_a_results_word_becomes_a_refusal_with_its_details() -> None:
    refusal = refuse_word("SOLD_OUT", {"left": 1, "retry_after_ms": 1500})
    assert (refusal.metadata, refusal.retry_after_s) == ({"left": "1"}, 1.5)
    assert refuse_word("SOLD_OUT").retry_after_s is None


def test_errors_without_our_details_are_not_read_as_refusals() -> None:
    assert refusal_of(bare_call_error(grpc.StatusCode.NOT_FOUND)) is None
    assert refusal_of(ValueError()) is None
    junk = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    assert refusal_of(grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), junk)) is None


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_every_exception_of_the_table_exists_and_means_what_it_says(name: str) -> None:
    module, _, qualified = name.rpartition(".")
    kind = getattr(importlib.import_module(module), qualified)
    refusal = refusal_for(kind.__new__(kind))
    assert refusal is not None
    assert refusal.word == EXCEPTIONS[name]


def test_the_nearest_class_decides() -> None:
    import nats.errors
    import redis.exceptions

    class Ours(redis.exceptions.BusyLoadingError):
        pass

    # It is also the built-in TimeoutError, which would be our caller's deadline.
    refusals = [refusal_for(error) for error in (nats.errors.TimeoutError(), TimeoutError(), Ours())]
    assert [refusal and refusal.word for refusal in refusals] == ["UNAVAILABLE", "DEADLINE", "UNAVAILABLE"]


def test_a_lost_postgres_connection_is_not_taken_for_a_wrong_call() -> None:
    import asyncpg
    from asyncpg.exceptions import InternalClientError

    dying = "cannot switch to state 12; another operation (2) is in progress"
    for error in (asyncpg.InterfaceError("connection is closed"), InternalClientError(dying)):
        lost = refusal_for(error)
        assert lost is not None
        assert lost.word == "UNAVAILABLE"
    for error in (
        asyncpg.InterfaceError("the server expects 2 arguments for this query"),
        InternalClientError("cannot switch to state 12; another operation (16) is in progress"),
    ):
        assert refusal_for(error) is None


def test_defects_are_no_refusals() -> None:
    import redis.exceptions

    assert [
        refusal_for(error)
        for error in (ValueError(), KeyError(), OSError(), redis.exceptions.ResponseError())
    ] == [None] * 4


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (as_call_error(Refusal("SOLD_OUT", left=2)), "SOLD_OUT"),
        # Our own token ran out: the caller's may be good, and repeating helps.
        (as_call_error(Refusal("TOKEN_EXPIRED")), "UNAVAILABLE"),
        # The called service does not trust us or does not know the method: our defect, not our caller's.
        (as_call_error(Refusal("TOKEN_INVALID")), None),
        (as_call_error(Refusal("ROLE_REQUIRED", needs="service")), None),
        (as_call_error(Refusal("INTERNAL", call_id="x")), None),
        (bare_call_error(grpc.StatusCode.UNAVAILABLE), "UNAVAILABLE"),
        (bare_call_error(grpc.StatusCode.DEADLINE_EXCEEDED), "UNAVAILABLE"),
        (bare_call_error(grpc.StatusCode.RESOURCE_EXHAUSTED), "OVERLOADED"),
        (bare_call_error(grpc.StatusCode.INVALID_ARGUMENT), None),
    ],
)
def test_what_a_called_service_answers_is_passed_on_where_it_is_for_our_caller(
    error: grpc.aio.AioRpcError, word: str | None
) -> None:
    refusal = refusal_for(error)
    assert (refusal and refusal.word) == word
