"""What an answer is called: OK, the reason of a refusal, or the status where it carries none of ours."""

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

DETAILS_KEY = "grpc-status-details-bin"
_NAMES = {code.value[0]: code.name for code in StatusCode}
_OF_LOAD = {"DEADLINE_EXCEEDED": "DEADLINE", "RESOURCE_EXHAUSTED": "OVERLOADED"}


def word_of(code: int, details: bytes | None) -> str:
    """The word for a status code and the serialized google.rpc.Status beside it."""
    if code == 0:
        return "OK"
    name = _NAMES.get(code, "UNKNOWN")
    return _reason(details) or _OF_LOAD.get(name, name)


def _reason(details: bytes | None) -> str:
    try:
        status = status_pb2.Status.FromString(details or b"")
    except DecodeError:
        return ""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return ""
