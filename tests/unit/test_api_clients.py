"""Who is let in: keys and tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey, RSAKey

from api.clients import ApiKeys, Client, CredentialError, TokenPolicy, Tokens, find_client, key_digest, new_api_key
from api.problems import Problem

NOW_S = 1_800_000_000
SECRET = b"s" * 32
CLAIMS = {"sub": "gateway", "exp": NOW_S + 60, "scope": "events:write other"}
PAIR = OKPKey.generate_key("Ed25519", auto_kid=False)


def test_keys_are_long_random_and_kept_as_digests() -> None:
    one, digest = new_api_key()
    other, _ = new_api_key()
    assert one != other
    assert one.startswith("usk_")
    assert len(one) == 47
    assert digest == key_digest(one)
    assert one not in digest


def test_a_list_of_keys_names_clients_with_what_they_may() -> None:
    (a, da), (b, db), (c, dc) = new_api_key(), new_api_key(), new_api_key()
    keys = ApiKeys(f"# gateways\none {da}\none {db} scope=events:write,decisions:read tenant=x,y rate=50 # new key\n\n; two {dc}")
    assert len(keys) == 3
    assert keys.authenticate(a) == Client("one", frozenset({"events:write"}))
    assert keys.authenticate(b) == Client("one", frozenset({"events:write", "decisions:read"}), frozenset({"x", "y"}), 50)
    assert keys.authenticate(c) == Client("two", frozenset({"events:write"}))
    assert keys.authenticate(da) is None
    assert ApiKeys("").authenticate("") is None
    assert keys.authenticate("é") is None


@pytest.mark.parametrize(
    "line",
    ["one", "one abc", "o/ne " + "0" * 64, "one " + "G" * 64, "one " + "0" * 64 + " scope=", "one " + "0" * 64 + " rate=0", "one " + "0" * 64 + " what=1",
     "one " + "0" * 64 + " tenant=a,,b"],
)  # fmt: skip
def test_a_bad_list_is_an_error_that_names_the_line(line: str) -> None:
    with pytest.raises(CredentialError, match="line 2"):
        ApiKeys("# keys\n" + line)


def test_a_digest_stands_in_a_list_once() -> None:
    with pytest.raises(CredentialError, match="twice"):
        ApiKeys(f"one {'0' * 64}\ntwo {'0' * 64}")


def tokens(**policy: Any) -> Tokens:
    return Tokens(SECRET, TokenPolicy("HS256", **policy), lambda: NOW_S)


def signed(claims: dict[str, Any], key: Any = None, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode({"alg": algorithm, **header}, dict(claims), key or OctKey.import_key(SECRET), algorithms=[algorithm])


def unsigned(claims: dict[str, Any], algorithm: str = "none") -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": algorithm, "typ": "JWT"}, claims)
    ]
    return ".".join(parts) + "."


def test_a_token_names_its_client() -> None:
    assert tokens().authenticate(signed(CLAIMS)) == Client("gateway", frozenset({"events:write", "other"}))
    assert tokens().authenticate(signed(CLAIMS | {"tenants": ["a"]})) == Client(
        "gateway", frozenset({"events:write", "other"}), frozenset({"a"})
    )
    found = tokens().authenticate(signed({"sub": "gateway", "exp": NOW_S + 1}))
    assert found == Client("gateway", frozenset())


@pytest.mark.parametrize(
    "changes",
    [{"exp": NOW_S - 31}, {"exp": None}, {"exp": "soon"}, {"exp": True}, {"nbf": NOW_S + 60}, {"iat": NOW_S + 60}, {"sub": None}, {"sub": "a b"}, {"sub": 7},
     {"sub": ["gateway"]}, {"scope": ["events:write"]}, {"tenants": "a"}, {"tenants": [1]}],
)  # fmt: skip
def test_claims_that_are_not_in_order_let_nobody_in(changes: dict[str, Any]) -> None:
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    assert tokens().authenticate(signed(claims)) is None


def test_clocks_may_differ_a_little() -> None:
    assert tokens().authenticate(signed(CLAIMS | {"exp": NOW_S - 29})) is not None
    assert tokens(leeway_s=0).authenticate(signed(CLAIMS | {"exp": NOW_S - 1})) is None


def test_issuer_and_audience_are_looked_at_where_set() -> None:
    strict = tokens(issuer="https://id.example", audience="usher")
    assert strict.authenticate(signed(CLAIMS | {"iss": "https://id.example", "aud": ["usher", "x"]})) is not None
    assert strict.authenticate(signed(CLAIMS | {"iss": "https://id.example", "aud": "x"})) is None
    assert strict.authenticate(signed(CLAIMS | {"iss": "https://other.example", "aud": "usher"})) is None
    assert strict.authenticate(signed(CLAIMS)) is None


def test_a_token_that_is_not_signed_by_our_key_and_algorithm_lets_nobody_in() -> None:
    assert tokens().authenticate(signed(CLAIMS, OctKey.import_key(b"x" * 32))) is None
    for algorithm in ("none", "None", "NONE", "HS256", ""):
        assert tokens().authenticate(unsigned(CLAIMS, algorithm)) is None
    assert tokens().authenticate(signed(CLAIMS, OctKey.import_key(SECRET * 2), "HS512")) is None
    good = signed(CLAIMS)
    for bad in ("", ".", "..", "a.b.c", good[:-2], good + "x", good.replace(".", "", 1), "é.é.é", "[]", good + ".x.y"):
        assert tokens().authenticate(bad) is None


def test_tokens_signed_with_ed25519() -> None:
    public = PAIR.as_pem(private=False)
    tokens = Tokens(public, TokenPolicy("EdDSA"), lambda: NOW_S)
    assert tokens.authenticate(signed(CLAIMS, PAIR, "EdDSA")) is not None
    assert tokens.authenticate(signed(CLAIMS, PAIR, "Ed25519")) is not None
    assert tokens.authenticate(signed(CLAIMS, OKPKey.generate_key("Ed25519"), "EdDSA")) is None
    # The public key as the secret of an HMAC (RFC 8725, section 2.1): the algorithm is not the token's to choose.
    header, payload = (base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in ({"alg": "HS256"}, CLAIMS))
    mac = base64.urlsafe_b64encode(hmac.digest(public, header + b"." + payload, hashlib.sha256)).rstrip(b"=")
    assert tokens.authenticate(b".".join((header, payload, mac)).decode()) is None


def test_keys_that_do_not_fit_the_algorithm_are_refused() -> None:
    with pytest.raises(CredentialError, match="31 bytes"):
        Tokens(b"s" * 31, TokenPolicy("HS256"), lambda: NOW_S)
    for key in (b"", b"junk", RSAKey.generate_key(2048).as_pem(private=False), OKPKey.generate_key("X25519").as_pem(private=False)):
        with pytest.raises(CredentialError, match="Ed25519"):
            Tokens(key, TokenPolicy("EdDSA"), lambda: NOW_S)
    with pytest.raises(CredentialError, match="private"):
        Tokens(PAIR.as_pem(private=True), TokenPolicy("EdDSA"), lambda: NOW_S)


def test_authenticators_are_asked_in_turn() -> None:
    key, digest = new_api_key()
    both = (ApiKeys(f"one {digest}"), tokens())
    for headers, name in (({"x-api-key": key}, "one"), ({"authorization": f"Bearer {signed(CLAIMS)}"}, "gateway")):
        found = find_client(headers, both, "events:write")
        assert isinstance(found, Client)
        assert found.name == name
    refused = find_client({"x-api-key": key}, (), "events:write")
    assert isinstance(refused, Problem)
    assert refused.status == 401
