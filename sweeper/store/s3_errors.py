"""What S3 refuses, in words that say what to do; and what of it may be over in a moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sweeper.errors import Problem, StoreAway, StoreError, SweeperError

_BUSY = (408, 409, 429, 500, 502, 503, 504)  # 409: two conditional puts of one key met
_BUSY_CODES = ("RequestTimeout", "SlowDown", "InternalError")
_CREDENTIALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidClientTokenId")
_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307")
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_RIGHTS = "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"


def status_of(error: BaseException) -> Any:
    """Returns the HTTP status of the answer that an error stands for, None where nothing was answered."""
    return _answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode")


def code_of(error: BaseException) -> Any:
    """Returns S3's word for an error, None where nothing was answered."""
    return _answer(error).get("Error", {}).get("Code")


def _answer(error: BaseException) -> dict[str, Any]:
    responses = (getattr(found, "response", None) for found in (error, error.__cause__))
    return next((response for response in responses if isinstance(response, dict)), {})


def is_passing(error: Exception) -> bool:
    """Tells whether a request may succeed when it is made again: nothing was answered, or the server is busy."""
    from aiohttp import ClientError
    from botocore import exceptions as of_botocore

    if isinstance(error, SweeperError):
        return False
    status = status_of(error)
    if status is not None:
        return status in _BUSY or code_of(error) in _BUSY_CODES
    passing = (of_botocore.HTTPClientError, of_botocore.ConnectionError, of_botocore.IncompleteReadError)
    return isinstance(error, (*passing, ClientError, OSError))


@contextmanager
def explained(address: str, tried_s: float) -> Iterator[None]:
    """Turns what S3 refuses into an error that says what to do.

    Args:
        address: of the store.
        tried_s: for how long passing errors were borne.

    Raises:
        StoreError: of where, rule, what was got and the way out.
    """
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except (OSError, BotoCoreError, ClientError) as error:
        rule, remedy = _meaning(error, tried_s)
        got = " ".join(str(error).split())[:300] or type(error).__name__
        kind = StoreAway if is_passing(error) else StoreError
        raise kind(Problem(where=address, rule=rule, got=got, remedy=remedy)) from error


def _meaning(error: Exception, tried_s: float) -> tuple[str, str]:
    """Returns the rule that was broken and the way out."""
    code, status = code_of(error), status_of(error)
    if is_passing(error):
        rule = f"S3 must answer; it was asked for {tried_s:g} s"
        return rule, "Run the same command again when it does (AWS_ENDPOINT_URL names the server): nothing is lost"
    if code == "NoSuchBucket":
        return "the bucket must exist", "Make it, or give another one with --store"
    if code in _CREDENTIALS or type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "S3 must know who you are", f"Set {_KEYS}"
    if code in _REGION:
        return "the bucket is in the region that is asked", "Set AWS_DEFAULT_REGION to the bucket's region"
    if status == 403:
        return "you may not read or write it", f"Ask for {_RIGHTS}, or set other credentials: {_KEYS}"
    return "S3 must take the request", "Give another --store, or mend what the server says"
