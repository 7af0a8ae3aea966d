"""JSON Web Tokens as Supabase issues and refuses them (HS256, one shared secret)."""

from __future__ import annotations

import time
from typing import Any

import jwt
import msgspec

from ..protocol.server_channel import Identity, TokenError

__all__ = ["Identity", "TokenError", "mint", "verify"]


def mint(secret: str, role: str, *, sub: str | None = None, expires_in: float = 3600, **claims: Any) -> str:
    """A token for that role; `expires_in` seconds from now (below zero gives one that has already expired)."""
    now = int(time.time())
    payload: dict[str, Any] = {"role": role, "iat": now, "exp": int(now + expires_in), **claims}
    if sub is not None:
        payload["sub"] = sub
    return jwt.encode(payload, secret, algorithm="HS256")  # pyright: ignore[reportUnknownMemberType]


def verify(secret: str, token: str, now: float | None = None) -> Identity:
    """The identity that the token proves at `now` (s since 1970), or TokenError with Supabase's own words."""
    try:
        claims: dict[str, Any] = jwt.decode(  # pyright: ignore[reportUnknownMemberType]
            token,
            secret,
            algorithms=["HS256", "HS384", "HS512"],
            options={"verify_exp": False, "verify_aud": False, "verify_sub": False, "verify_iat": False},
        )
    except jwt.InvalidSignatureError:
        raise TokenError("JwtSignatureError", "Failed to validate JWT signature") from None
    except jwt.PyJWTError:
        raise TokenError("MalformedJWT", "The token provided is not a valid JWT") from None
    role, exp = claims.get("role"), claims.get("exp")
    if not isinstance(role, str) or not role or not isinstance(exp, int | float):
        raise TokenError("InvalidJWTToken", "Fields `role` and `exp` are required in JWT")
    late = (time.time() if now is None else now) - exp
    if late >= 0:
        raise TokenError("InvalidJWTToken", f"Token has expired {int(late)} seconds ago", "Token has expired")
    claims_text = msgspec.json.encode(claims).decode()
    return Identity(role, claims_text, str(claims.get("sub") or ""), exp)
