"""Refusals of the control server: an HTTP status, a code for programs, sentences for people."""

from http import HTTPStatus

from hamail.control.api import Problem
from hamail.model.ids import RequestId


class ApiError(Exception):
    """Carries what the client gets to see."""

    def __init__(
        self, status: HTTPStatus, code: str, error: str, reasons: tuple[str, ...] = (), request: RequestId = ""
    ) -> None:
        super().__init__(error)
        self.status = status
        self.problem = Problem(code=code, error=error, reasons=reasons, request=request)


def bad_request(error: str, request: RequestId = "") -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, "bad_request", error, request=request)


def forbidden(error: str) -> ApiError:
    return ApiError(HTTPStatus.FORBIDDEN, "forbidden", error)


def not_found(error: str) -> ApiError:
    return ApiError(HTTPStatus.NOT_FOUND, "not_found", error)


def refused(error: str, reasons: tuple[str, ...], request: RequestId = "") -> ApiError:
    """Nothing was changed."""
    return ApiError(HTTPStatus.CONFLICT, "refused", error, reasons, request)


def not_done(error: str, request: RequestId = "") -> ApiError:
    """Surely not done, for a reason that may pass."""
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "not_done", error, request=request)


def busy(error: str) -> ApiError:
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "busy", error)


def unknown_outcome(why: str, request: RequestId) -> ApiError:
    """The order may or may not take effect; the same request id may be sent again."""
    return ApiError(HTTPStatus.GATEWAY_TIMEOUT, "unknown_outcome", why, request=request)


def internal(error: str) -> ApiError:
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", error)
