"""The key that signs node tokens: made at first use in the authority's state folder, the same ever after.

Replicas share it as they share the authority's keys. Whoever has it can be any node's proxy; the file has mode 0600.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from peerauth.ca.keyfiles import (
    check_private_folder,
    check_secrets,
    exclusive,
    make_private_folder,
    read_private,
    replace_file,
)
from peerauth.errors import IdentityError
from peerauth.identity.keys import CURVE, private_key_pem

TOKEN_KEY = "token-key.pem"  # noqa: S105  a file's name
_LOCK = ".token-key.lock"


def open_token_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    """The key in `folder`; waits while another process makes it.

    Raises IdentityError for a file or folder that cannot be used or is open to others, PlatformError when the disk
    refuses.
    """
    make_private_folder(folder)
    check_private_folder(folder)
    check_secrets(folder)
    path = folder / TOKEN_KEY
    with exclusive(folder / _LOCK):
        if not path.exists():
            replace_file(path, private_key_pem(ec.generate_private_key(CURVE)))
        content = read_private(path)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        # The library's message may quote the input; a key's file is never quoted.
        raise IdentityError(f"{path} is not a PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != CURVE.name:
        raise IdentityError(f"{path} is not a key on P-256")
    return key
