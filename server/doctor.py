"""`esc-skills doctor`: what is in order, what is not, and what to do about it."""

import json
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..skills_bank.errors import EscError
from .hosts import command
from .loader import BankLoader

if TYPE_CHECKING:
    from ..skills_bank.settings import Settings

Status = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One line of the report."""

    name: str
    status: Status
    detail: str


def examine(settings: "Settings", loader: BankLoader | None = None) -> list[Check]:
    """Return every check; one that cannot be carried out is a failed one."""
    loader = loader or BankLoader(settings)
    parts: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("install", _install),
        ("settings", lambda: _settings(settings)),
        ("encoder", lambda: _encoder(loader)),
        ("bank", lambda: _bank(loader)),
        ("hosts", _hosts),
    )
    checks: list[Check] = []
    for name, part in parts:
        try:
            checks += part()
        except EscError as error:
            checks.append(Check(name, "fail", str(error)))
        except Exception as error:  # a doctor that dies tells nothing
            checks.append(Check(name, "fail", f"{type(error).__name__}: {error}"))
    return checks


def _install() -> Iterator[Check]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("fastmcp", "mcp", "onnxruntime", "lancedb"))
    yield Check("install", "ok", f"esc-skills {version('esc-skills')}, Python {platform.python_version()}, {packages}")


def _settings(settings: "Settings") -> Iterator[Check]:
    from ..skills_bank.helplines import load_helplines
    from .http import check_binding

    given = sorted(name for name in os.environ if name.startswith("ESC_"))
    fields = {f"ESC_{name.upper()}" for name in type(settings).model_fields}
    unknown = [name for name in given if name not in fields]
    if unknown:
        yield Check("settings", "warn", f"not a setting: {', '.join(unknown)}; known are {', '.join(sorted(fields))}")
    region = load_helplines(settings.helplines).region(settings.region)
    check_binding(settings.host, settings.token.get_secret_value() if settings.token else None)
    yield Check("settings", "ok", f"from the environment: {', '.join(given) or 'nothing'}; helplines: {region.name}")


def _encoder(loader: BankLoader) -> Iterator[Check]:
    encoder = loader.encoder()
    yield Check("encoder", "ok", f"version {encoder.version}, checksum verified")


def _bank(loader: BankLoader) -> Iterator[Check]:
    place = loader.place
    yield Check("bank", "ok", f"{place.kind}, read from {place.store().active_folder()}")
    view = loader.load(None)
    bank = view.bank
    for problem in view.problems:
        yield Check("bank", "fail", problem)
    unmeasured = sorted(set(bank.skills) - set(bank.evidence))
    if unmeasured:
        yield Check("bank", "warn", f"{len(unmeasured)} skill(s) carry no evidence: {', '.join(unmeasured[:5])}")
    yield Check("bank", "ok", f"version {bank.version}, {len(bank.skills)} skills")
    yield Check("index", "ok", f"up to date in {place.index_folder()}")


def _hosts() -> Iterator[Check]:
    here = Path(command())
    status: Status = "ok" if here.is_file() and os.access(here, os.X_OK) else "fail"
    yield Check("hosts", status, f"command for hosts: {here}")
    for path in config_files():
        yield _host(path)


def _host(path: Path) -> Check:
    try:
        servers = json.loads(path.read_text(encoding="utf-8")).get("mcpServers", {})
    except (OSError, ValueError, AttributeError) as error:
        return Check("hosts", "warn", f"{path} cannot be read: {error}")
    entry = servers.get("esc-skills") if isinstance(servers, dict) else None
    if entry is None:
        return Check("hosts", "ok", f"{path}: esc-skills is not set up there (`esc-skills hosts` prints the block)")
    program = str(entry.get("command", entry.get("url", "")))
    if program.startswith("/") and not Path(program).is_file():
        return Check("hosts", "fail", f"{path}: its command {program} does not exist; put {command()} there")
    return Check("hosts", "ok", f"{path}: set up with {program}")


def config_files() -> list[Path]:
    """Return the configuration files of known hosts that exist on this machine."""
    home = Path.home()
    known = (
        home / "Library/Application Support/Claude/claude_desktop_config.json",
        home / ".config/Claude/claude_desktop_config.json",
        home / "AppData/Roaming/Claude/claude_desktop_config.json",
        home / ".claude.json",
        home / ".cursor/mcp.json",
    )
    return [path for path in known if path.is_file()]
