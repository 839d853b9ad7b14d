"""Tokens as Django's SimpleJWT and PyJWT make them, for tests/suite/tokens.rs.

    tokens.py DIRECTORY SECRET URL

writes public keys (PEM) and a JWKS into DIRECTORY, and prints one JSON object: the versions, and tokens by name. With
SECRET, SimpleJWT signs as it does by default. URL is what the issuer calls itself.
"""

import datetime
import json
import pathlib
import sys

import django
import jwt
import rest_framework_simplejwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings

directory, secret, url = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
settings.configure(
    SECRET_KEY=secret,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "rest_framework_simplejwt"],
)
django.setup()

from rest_framework_simplejwt.tokens import AccessToken, RefreshToken  # noqa: E402  after the settings


class User:
    """What SimpleJWT asks of a user; USER_ID_FIELD is `id` by default."""

    is_active = True

    def __init__(self, id):
        self.id = self.pk = id


def simple():
    refresh = RefreshToken.for_user(User(701))
    expired = AccessToken.for_user(User(701))
    expired.set_exp(lifetime=-datetime.timedelta(seconds=60))
    as_number, as_text = AccessToken.for_user(User(701)), AccessToken.for_user(User(701))
    as_number["user_id"], as_text["user_id"] = 701, "701"
    return {
        "access": str(AccessToken.for_user(User(701))),
        "access_of_refresh": str(refresh.access_token),
        "access_user_id_number": str(as_number),
        "access_user_id_string": str(as_text),
        "refresh": str(refresh),
        "expired": str(expired),
    }


def claims(**more):
    now = int(datetime.datetime.now(datetime.timezone.utc).timestamp())
    return {"sub": "701", "iat": now, "exp": now + 600, **more}


KEYS = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
keys, tokens = [], {}
for algorithm, private in KEYS.items():
    public = private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (directory / f"{algorithm}.pem").write_bytes(pem)
    to_jwk = {"RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm, "EdDSA": jwt.algorithms.OKPAlgorithm}
    jwk = json.loads(to_jwk[algorithm].to_jwk(public))
    keys.append({**jwk, "kid": algorithm.lower(), "use": "sig", "alg": algorithm})
    tokens[algorithm] = jwt.encode(claims(), private, algorithm, headers={"kid": algorithm.lower()})
    tokens[f"{algorithm} for us"] = jwt.encode(
        claims(iss=url, aud=["chat", "other"]), private, algorithm, headers={"kid": algorithm.lower()}
    )
    tokens[f"{algorithm} stranger"] = jwt.encode(claims(), private, algorithm, headers={"kid": "stranger"})
(directory / "jwks.json").write_text(json.dumps({"keys": keys}))
for algorithm in ["HS256", "HS384", "HS512"]:
    tokens[algorithm] = jwt.encode(claims(), secret, algorithm)

print(
    json.dumps(
        {
            "versions": {"simplejwt": rest_framework_simplejwt.__version__, "pyjwt": jwt.__version__},
            "simplejwt": simple(),
            "pyjwt": tokens,
        }
    )
)
