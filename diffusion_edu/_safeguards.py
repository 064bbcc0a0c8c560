"""Options and settings of Jupyter that would let others run code here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

__all__ = ["checked", "last"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PAGES = "any web page that you visit"
# last part of a setting's name: (whether a value is harmless, who could come in otherwise)
SAFEGUARDS: dict[str, tuple[Callable[[str], bool], str]] = {
    "token": (bool, "any program and any user of this machine"),
    "disable_check_xsrf": (lambda value: value.lower() in ("false", "0"), PAGES),
    "allow_origin": (lambda value: "*" not in value, PAGES),
    "allow_origin_pat": (lambda value: ".*" not in value and ".+" not in value, PAGES),
}


def checked(words: Sequence[str]) -> dict[str, str]:
    """The options {"--key": value} among ``words``. Warns if one of them leaves this machine.

    Raises:
        ValueError: one of them, or a setting in the user's configuration of Jupyter that none of
            them replaces, switches a safeguard off.
    """
    options = list(_options(words))
    for key, value in options:
        _refuse(key, value, "")
    given = {last(key) for key, _ in options}
    file = next((value for key, value in options if last(key) in ("config", "config_file")), "")
    for key, value in _configuration(file):
        if last(key) not in given:
            _refuse(f"--{key}", value, " in your Jupyter configuration")
    for key, ip in options:
        if last(key) == "ip" and ip not in LOOPBACK:
            print(
                f"WARNING: ip={ip}: whoever sees the token, which crosses the network in the "
                "clear, can run code as you",
                file=sys.stderr,
            )
    return dict(options)


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(--key, value) of ``--key=value``, ``--key value`` and ``--key``."""
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        key, equals, value = word.partition("=")
        if key.startswith("-"):
            yield key, value if equals or after.startswith("-") else after


def last(key: str) -> str:
    """ip of --ServerApp.ip: Jupyter takes a setting from several classes, and from aliases."""
    return key.lstrip("-").rpartition(".")[2]


def _configuration(given: str) -> Iterator[tuple[str, str]]:
    """(Class.trait, value) of the file ``given`` and those where Jupyter's servers look."""
    from jupyter_core.application import JupyterApp

    file = os.environ.get("JUPYTER_TOKEN_FILE")
    if file and not os.environ.get("JUPYTER_TOKEN"):
        yield "IdentityProvider.token", Path(file).read_text().strip()
    readers = [
        JupyterApp(config_file_name=f"jupyter_{n}_config") for n in ("notebook", "server", "lab")
    ]
    if given:
        readers.append(JupyterApp(config_file=given))
    for reader in readers:
        reader.load_config_file()
        for section, traits in reader.config.items():
            yield from ((f"{section}.{trait}", str(value)) for trait, value in traits.items())


def _refuse(key: str, value: str, where: str) -> None:
    harmless, who = SAFEGUARDS.get(last(key), (value.__eq__, ""))
    if not harmless(value.strip("'\"")):
        raise ValueError(
            f"{key}={value}{where} would let {who} run code as you: leave it out, or give another "
            "value"
        )
