"""Fixtures of the base."""

import os

import pytest


@pytest.fixture
def handles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The handles that are open; one that is opened comes, one that is closed goes."""
    found: list[int] = []
    really_open, really_close = os.open, os.close

    def open_one(*args: object, **kwargs: object) -> int:
        found.append(really_open(*args, **kwargs))  # type: ignore[arg-type]
        return found[-1]

    def close(handle: int) -> None:
        found.remove(handle)
        really_close(handle)

    monkeypatch.setattr(os, "open", open_one)
    monkeypatch.setattr(os, "close", close)
    return found
