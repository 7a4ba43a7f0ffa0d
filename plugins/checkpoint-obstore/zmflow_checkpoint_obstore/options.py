"""What a location says behind its ``?``, and the client that comes of it."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import parse_qsl, urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store, from_url

from zmflow.errors import ConfigurationError
from zmflow_checkpoint_obstore.reasons import reason_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

__all__ = ["STORES", "ObjectStore", "client_of"]

ObjectStore: TypeAlias = S3Store | GCSStore | AzureStore

STORES = {
    "s3": {
        "checksum_algorithm",
        "disable_bulk_delete",
        "endpoint",
        "region",
        "request_payer",
        "server_side_encryption",
        "skip_signature",
        "sse_kms_key_id",
        "unsigned_payload",
        "virtual_hosted_style_request",
    },
    "gs": {"base_url", "skip_signature"},
    "az": {"account_name", "endpoint", "skip_signature", "use_emulator"},
}
"""What may be said of a store in a location. Nothing that is a secret is among it."""

_CLIENT = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "5m"}
"""A server that is silent for half a minute will not answer. Reading a large file may last some minutes."""

_RETRIES_MAX = "5"
_RETRY_TIMEOUT = timedelta(seconds=60)
"""With the pauses between them, five attempts take some seconds; when each of them times out, this."""


@lru_cache(maxsize=16)
def client_of(location: str) -> ObjectStore:
    """The client of the bucket of a location. One for all locations that differ in their path only is kept.

    Raises:
        ConfigurationError: the location has an option that there is not, or a wrong one.
    """
    url = urlsplit(location)
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    allowed = STORES[url.scheme]
    unknown = sorted(options.keys() - allowed - _CLIENT.keys() - {"max_retries"})
    if unknown:
        raise ConfigurationError(
            f"A location of {url.scheme}:// has no option {unknown[0]!r}.",
            detail="Known: " + ", ".join(sorted(allowed | _CLIENT.keys() | {"max_retries"})) + ".",
            hint="Secrets and what is not in this list go into the environment of the processes.",
        )
    server = options.get("endpoint", options.get("base_url", ""))
    client: dict[str, Any] = {key: options.get(key, default) for key, default in _CLIENT.items()}
    if server.startswith("http://"):
        client["allow_http"] = True
    try:
        retry: RetryConfig = {
            "max_retries": int(options.get("max_retries", _RETRIES_MAX)),
            "retry_timeout": _RETRY_TIMEOUT,
        }
        store = from_url(
            f"{url.scheme}://{url.netloc}",
            config=cast("Any", {key: value for key, value in options.items() if key in allowed}),
            client_options=cast("ClientConfig", client),
            retry_config=retry,
        )
    except (BaseError, OSError, TypeError, ValueError) as error:
        raise ConfigurationError(
            "The object store of a location cannot be used.", detail=f"{location}: {reason_of(error)}"
        ) from error
    return cast("ObjectStore", store)
