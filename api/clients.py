"""Who a client is: API keys, kept as digests, and signed tokens (JWT).

There is no default key and no password. A key is 256 random bits, so its SHA-256 digest cannot be searched for and needs no salt.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey, OKPKey
from joserfc.jwt import JWTClaimsRegistry

from api.problems import Problem

EVENTS_WRITE: Final = "events:write"
KEY_PREFIX: Final = "usk_"
MIN_SECRET_BYTES: Final = 32
MAX_CREDENTIAL_CHARS: Final = 8_192

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_SCOPE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_NAMES: Final = {"HS256": ("HS256",), "EdDSA": ("EdDSA", "Ed25519")}
"""What tokens call an algorithm; Ed25519 is RFC 9864's name for EdDSA with that curve."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Client:
    """A client that has shown who it is.

    Attributes:
        name: letters, digits, `.`, `_`, `-`; at most 64. The rate limit and idempotency keys are kept under it.
        scopes: what it may do, e.g. `events:write`.
        tenants: tenants whose events it may send; None: of any.
        events_per_window: its own rate limit; None: the server's.
    """

    name: str
    scopes: frozenset[str]
    tenants: frozenset[str] | None = None
    events_per_window: int | None = None


class Authenticator(Protocol):
    """Tells who sends a request. Never blocks on I/O."""

    def authenticate(self, credential: str) -> Client | None:
        """The client whose credential this is; None: it is no valid credential of this kind."""
        ...


class CredentialError(Exception):
    """A list of keys or a token key cannot be used; the message names the line and what is wrong, and holds no key."""


def new_api_key() -> tuple[str, str]:
    """(key, digest): the key for the client, the digest for the list of keys."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    return key, key_digest(key)


def key_digest(key: str) -> str:
    """SHA-256 of a key as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


class ApiKeys:
    """API keys from a list: a line a key, `NAME DIGEST [scope=A,B] [tenant=A,B] [rate=EVENTS]`; `#` begins a comment.

    A name may have several keys, so that one can replace another without a gap. `;` ends a line too, for lists in a variable.

    Args:
        text: the list.

    Raises:
        CredentialError: a line is not of this form, or a digest stands there twice.
    """

    def __init__(self, text: str) -> None:
        self._clients: list[tuple[bytes, Client]] = []
        for number, line in enumerate(text.replace(";", "\n").splitlines(), start=1):
            words = line.partition("#")[0].split()
            if words:
                self._clients.append(_key_line(words, number))
        digests = [digest for digest, _ in self._clients]
        if len(set(digests)) < len(digests):
            raise CredentialError("a digest stands in the list of keys twice")

    def __len__(self) -> int:
        return len(self._clients)

    def authenticate(self, credential: str) -> Client | None:
        """The client of a key. Looks at every key whatever it finds, each in constant time."""
        given = key_digest(credential).encode()
        found = None
        for digest, client in self._clients:
            if hmac.compare_digest(digest, given):
                found = client
        return found


def _key_line(words: list[str], number: int) -> tuple[bytes, Client]:
    name, digest, *options = [*words, ""] if len(words) == 1 else words
    if not _NAME.fullmatch(name):
        raise CredentialError(f"line {number} of the keys: a name is 1 to 64 of letters, digits, '.', '_', '-'")
    if not _DIGEST.fullmatch(digest):
        raise CredentialError(f"line {number} of the keys: no digest of 64 lower-case hexadecimal digits follows the name")
    scopes: frozenset[str] = frozenset({EVENTS_WRITE})
    tenants: frozenset[str] | None = None
    rate: int | None = None
    for option in options:
        what, _, value = option.partition("=")
        values = frozenset(value.split(","))
        if what == "scope" and all(_SCOPE.fullmatch(one) for one in values):
            scopes = values
        elif what == "tenant" and all(_NAME.fullmatch(one) for one in values):
            tenants = values
        elif what == "rate" and value.isascii() and value.isdigit() and int(value) > 0:
            rate = int(value)
        else:
            raise CredentialError(f"line {number} of the keys: options are scope=A,B tenant=A,B rate=EVENTS")
    return digest.encode(), Client(name, scopes, tenants, rate)


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """Which tokens are taken.

    Attributes:
        algorithm: the one algorithm; a token that names another, `none` included, is refused (RFC 8725, section 3.1).
        issuer, audience: what `iss` and `aud` must say; None: not looked at.
        leeway_s: how far clocks may differ.
    """

    algorithm: Literal["HS256", "EdDSA"]
    issuer: str | None = None
    audience: str | None = None
    leeway_s: int = 30


class Tokens:
    """JSON Web Tokens (RFC 7519) with the claims `sub` (name of the client), `exp`, `scope` (words, RFC 8693) and, where wanted, `tenants`.

    Args:
        key: HS256: the secret, at least 32 bytes (RFC 7518, section 3.2). EdDSA: the public key, PEM or JWK.
        policy: which tokens are taken.
        clock: Unix seconds.

    Raises:
        CredentialError: the key does not fit the algorithm.
    """

    def __init__(self, key: bytes, policy: TokenPolicy, clock: Callable[[], float]) -> None:
        self._policy, self._clock = policy, clock
        self._key = _token_key(key, policy)

    def authenticate(self, credential: str) -> Client | None:
        """The client that a token names; None where signature, times or claims are not in order."""
        policy = self._policy
        wanted: dict[str, Any] = {"exp": {"essential": True}, "sub": {"essential": True}}
        if policy.issuer is not None:
            wanted["iss"] = {"essential": True, "value": policy.issuer}
        if policy.audience is not None:
            wanted["aud"] = {"essential": True, "value": policy.audience}
        try:
            claims = jwt.decode(credential, self._key, algorithms=_NAMES[policy.algorithm]).claims
            JWTClaimsRegistry(now=int(self._clock()), leeway=policy.leeway_s, **wanted).validate(claims)
        except (JoseError, ValueError, TypeError):  # the library lets the latter two through for some malformed tokens
            return None
        return _client_of(claims)


def _token_key(key: bytes, policy: TokenPolicy) -> OctKey | OKPKey:
    if policy.algorithm == "HS256":
        if len(key) < MIN_SECRET_BYTES:
            raise CredentialError(f"the secret for HS256 has {len(key)} bytes; it needs {MIN_SECRET_BYTES}")
        return OctKey.import_key(key)
    try:
        found = OKPKey.import_key(key)
    except (JoseError, ValueError, TypeError) as error:
        raise CredentialError("the key for EdDSA is no Ed25519 public key") from error
    if found.curve_name != "Ed25519":
        raise CredentialError("the key for EdDSA is no Ed25519 public key")
    if found.is_private:
        raise CredentialError("the key for EdDSA is a private key; here belongs the public one")
    return found


def _client_of(claims: Mapping[str, Any]) -> Client | None:
    name, scope, tenants = claims.get("sub"), claims.get("scope", ""), claims.get("tenants")
    if not (isinstance(name, str) and _NAME.fullmatch(name) and isinstance(scope, str)):
        return None
    if tenants is None:
        return Client(name, frozenset(scope.split()))
    if not isinstance(tenants, list) or not all(isinstance(one, str) for one in tenants):
        return None
    return Client(name, frozenset(scope.split()), frozenset(tenants))


def find_client(headers: Mapping[str, str], authenticators: Iterable[Authenticator], scope: str) -> Client | Problem:
    """The client that a request's `X-API-Key` or `Authorization: Bearer` header names, if it may do what `scope` says."""
    given = headers.get("x-api-key")
    if given is None:
        kind, _, rest = headers.get("authorization", "").partition(" ")
        given = rest.strip() if kind.lower() == "bearer" else ""
    if not given:
        return _unauthorised("a request needs an API key (X-API-Key) or a token (Authorization: Bearer)", "")
    client = None
    if len(given) <= MAX_CREDENTIAL_CHARS:
        client = next((found for one in authenticators if (found := one.authenticate(given)) is not None), None)
    if client is None:
        return _unauthorised("the API key or token is not valid", ', error="invalid_token"')
    if scope not in client.scopes:
        challenge = {"WWW-Authenticate": f'Bearer realm="usher", error="insufficient_scope", scope="{scope}"'}
        return Problem(403, "forbidden", "Not allowed", f"this client lacks the scope {scope}", headers=challenge)
    return client


def _unauthorised(detail: str, error: str) -> Problem:
    return Problem(401, "unauthorised", "Not authenticated", detail, headers={"WWW-Authenticate": f'Bearer realm="usher"{error}'})
