"""Where a server may listen, and with which token."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_nlg.config.errors import InputError
from megatron_nlg.serving.address import is_loopback
from megatron_nlg.serving.settings import TOKEN_VARIABLE, Settings, read_token


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "")))


def test_elsewhere_only_with_a_token() -> None:
    with pytest.raises(InputError, match="set a token with --token-file FILE or MEGATRON_NLG_SERVE_TOKEN"):
        Settings("toy", host="0.0.0.0").check()
    Settings("toy", host="0.0.0.0", token="long-enough").check()
    Settings("toy").check()


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "of-the-environment")
    (tmp_path / "token").write_text("of-the-file\n")
    assert (read_token(None), read_token(tmp_path / "token")) == ("of-the-environment", "of-the-file")
    for bad in ("", "short", "with a space", "naïve-token"):
        (tmp_path / "token").write_text(bad)
        with pytest.raises(InputError, match="8 or more printable ASCII"):
            read_token(tmp_path / "token")
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    with pytest.raises(InputError, match=TOKEN_VARIABLE):  # an empty secret must not open the door
        read_token(None)
