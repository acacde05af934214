"""Why a connection by TLS to Redis failed, and what to do about it."""

from __future__ import annotations

import re
import ssl
from typing import NamedTuple

_TRUST = "name the authority that issued it in the URL: rediss://…?ssl_ca_certs=/path/of/ca.pem."
_NAME = "give the name that is in the certificate, or have one issued for this address."
_CLIENT = (
    "if it asks for a client's certificate, give one: rediss://…?ssl_certfile=/path/of/cert.pem&ssl_keyfile="
    "/path/of/key.pem; if it was given, have it issued by an authority that the server trusts."
)
_PLAIN = "write redis://, or give the server's TLS port."
_FILES = "see that the files of ssl_ca_certs, ssl_certfile and ssl_keyfile are there, fit and can be read."


class Trouble(NamedTuple):
    """A sentence without its subject, and a hint. Neither holds a secret."""

    what: str
    hint: str


def trouble(error: BaseException, address: str) -> Trouble | None:
    """Return what TLS has to say of a failed connection to ``address``; None: it is not about TLS."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = cause.verify_message.rstrip(".")
            return Trouble(f"has a certificate that is refused: {why}", _NAME if "match" in why else _TRUST)
        if isinstance(cause, ssl.SSLError):
            return _of_session(cause)
        # The files of certificates are read when the client connects; a socket's own path is the address.
        if isinstance(cause, (FileNotFoundError, PermissionError)) and not address.startswith("/"):
            return Trouble(f"can't be reached: a file of the URL can't be read: {cause.strerror}", _FILES)
    return None


def _of_session(error: ssl.SSLError) -> Trouble:
    # An error of ssl's own Python code has none.
    reason = (getattr(error, "reason", None) or "").lower().replace("_", " ")
    if "wrong version number" in reason or "record layer failure" in reason:
        return Trouble("speaks no TLS there", _PLAIN)
    if reason in ("key values mismatch", "pem lib", "no start line") or "no certificate or crl" in reason:
        return Trouble(
            f"can't be reached: a file of the URL is no certificate or key that fits: {reason}", _FILES
        )
    said = reason or re.sub(r" \(_ssl\.c:\d+\)$", "", error.strerror or str(error.args[0]))
    return Trouble(f"refused the TLS session: {said}", _CLIENT)


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain
