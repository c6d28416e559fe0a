"""The key of node tokens: made once, private, and never made anew over something else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from peerauth.ca.token_key import TOKEN_KEY, open_token_key
from peerauth.errors import IdentityError
from peerauth.identity.keys import private_key_pem


def test_it_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    first, again = open_token_key(tmp_path / "ca"), open_token_key(tmp_path / "ca")
    assert private_key_pem(first) == private_key_pem(again)
    assert stat.S_IMODE((tmp_path / "ca" / TOKEN_KEY).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"secret", private_key_pem(ec.generate_private_key(ec.SECP384R1()))])
def test_a_file_that_is_not_such_a_key_is_named_not_quoted_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "ca"
    open_token_key(folder)
    (folder / TOKEN_KEY).write_bytes(content)
    with pytest.raises(IdentityError, match=TOKEN_KEY) as caught:
        open_token_key(folder)
    assert "secret" not in str(caught.value)
    assert (folder / TOKEN_KEY).read_bytes() == content


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    open_token_key(tmp_path / "ca")
    (tmp_path / "ca" / TOKEN_KEY).chmod(0o644)
    with pytest.raises(IdentityError, match="0644"):
        open_token_key(tmp_path / "ca")
