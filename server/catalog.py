"""The files of one bank version as resources: served from memory, digests taken once.

FastMCP's own `SkillsDirectoryProvider` reads and hashes the folder on every call (760 ms at 1,000 skills), shows
"Skill: x" as description, and would serve a broken edit that the bank has refused. Hence this small provider, which
publishes exactly what the live bank holds.
"""

import hashlib
import json
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml
from fastmcp.resources.base import Resource, ResourceContent, ResourceResult
from fastmcp.resources.template import ResourceTemplate
from fastmcp.server.providers.base import Provider
from fastmcp.skills.models import Skill as SkillEntry
from fastmcp.skills.models import SkillFrontmatter
from fastmcp.skills.models import SkillResource as FileEntry
from fastmcp.utilities.components import FastMCPComponent
from fastmcp.utilities.versions import VersionSpec
from pydantic import AnyUrl, PrivateAttr

from ..skills_bank.frontmatter import normal_lines, split_frontmatter
from ..skills_bank.problems import ProblemLog
from .uris import skill_uri

if TYPE_CHECKING:
    from .watch import LiveBank

_TEXT = {".md": "text/markdown", ".json": "application/json", ".txt": "text/plain", ".yaml": "application/yaml"}


class FileResource(Resource):
    """One file of a skill, held in memory."""

    _content: bytes = PrivateAttr(default=b"")

    @classmethod
    def of(cls, uri: str, name: str, description: str, content: bytes) -> "FileResource":
        """Return the resource for `content`."""
        resource = cls(uri=AnyUrl(uri), name=name, description=description, mime_type=_mime(uri))
        resource._content = content
        return resource

    def get_meta(self) -> dict[str, Any]:
        """Return no metadata: SEP-2640 asks for its own prefix in `_meta`, FastMCP would add one of its own."""
        return {}

    async def read(self) -> ResourceResult:
        """Return the bytes as they are; text as text, whose UTF-8 is those bytes."""
        try:
            content: str | bytes = self._content.decode("utf-8") if _is_text(self.mime_type) else self._content
        except UnicodeDecodeError:
            content = self._content
        return ResourceResult([ResourceContent(content, mime_type=self.mime_type)])


class Catalog:
    """The skills' files of one bank version, by address. Entries are made when first asked for."""

    def __init__(self, texts: Mapping[str, str], support_files: Callable[[str], Mapping[str, bytes]]) -> None:
        self._texts = texts
        self._support_files = support_files
        self._files: dict[str, dict[str, bytes]] = {}
        self._entries: dict[str, SkillEntry] = {}

    def files(self, name: str) -> dict[str, bytes]:
        """Return the files of skill `name` by path, SKILL.md first."""
        if name not in self._files:
            support = self._support_files(name)
            self._files[name] = {
                "SKILL.md": self._texts[name].encode(),
                **{path: support[path] for path in sorted(support)},
            }
        return self._files[name]

    def entry(self, name: str) -> SkillEntry:
        """Return the SEP-2640 entry of skill `name`: verbatim frontmatter; address, digest and size of each file."""
        if name not in self._entries:
            self._entries[name] = SkillEntry(
                uri=skill_uri(name),
                frontmatter=_frontmatter(name, self._texts[name]),
                resources=[
                    FileEntry(
                        uri=skill_uri(name, quote(path)),
                        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
                        size=len(content),
                    )
                    for path, content in self.files(name).items()
                ],
            )
        return self._entries[name]

    def entries(self) -> list[SkillEntry]:
        """Return the entries of all skills."""
        return [self.entry(name) for name in sorted(self._texts)]

    def find(self, uri: str) -> FileResource | None:
        """Return the file at `uri`, a listed one or a support file, or None."""
        if uri in self._listed:
            return self._listed[uri]
        name, _, path = uri.removeprefix("skill://").partition("/")
        if not uri.startswith("skill://") or name not in self._texts:
            return None
        if path == "_manifest":
            return FileResource.of(uri, f"{name}/_manifest", f"Files of the skill {name}", self._manifest(name))
        return next(
            (
                FileResource.of(uri, f"{name}/{file}", f"Support file of the skill {name}", content)
                for file, content in self.files(name).items()
                if quote(file) == path
            ),
            None,
        )

    @property
    def resources(self) -> list[FileResource]:
        """The SKILL.md of every skill; support files are found through the entry or `_manifest`."""
        return list(self._listed.values())

    @cached_property
    def _listed(self) -> dict[str, FileResource]:
        return {
            skill_uri(name): FileResource.of(
                skill_uri(name), name, self.entry(name).frontmatter.description, text.encode()
            )
            for name, text in sorted(self._texts.items())
        }

    def _manifest(self, name: str) -> bytes:
        """FastMCP's classic listing for clients that do not speak the skills extension."""
        entry = self.entry(name)
        assert isinstance(entry.resources, list)
        files = [
            {"path": path, "size": file.size, "hash": file.digest}
            for path, file in zip(self.files(name), entry.resources, strict=True)
        ]
        return json.dumps({"skill": name, "files": files}, indent=2).encode()


class _FileTemplate(ResourceTemplate):
    """Says where support files lie; reading goes through `Catalog.find`."""


class BankProvider(Provider):
    """Publishes the live bank's files, and their entries to `SkillsExtension`."""

    def __init__(self, live: "LiveBank") -> None:
        super().__init__()
        self._live = live

    async def _catalog(self) -> Catalog:
        return (await self._live.view()).catalog

    async def get_tasks(self) -> Sequence[FastMCPComponent]:
        """Return none; FastMCP asks at start-up, and listing the files would wait for the bank to be loaded."""
        return []

    async def _list_resources(self) -> Sequence[Resource]:
        return (await self._catalog()).resources

    async def _get_resource(self, uri: str, version: VersionSpec | None = None) -> Resource | None:
        return (await self._catalog()).find(uri)

    async def _list_resource_templates(self) -> Sequence[ResourceTemplate]:
        return [
            _FileTemplate(
                uri_template="skill://{name}/{path*}",
                name="skill_file",
                description="A file of a skill. `skill://NAME/_manifest` lists the files of the skill NAME.",
                mime_type="application/octet-stream",
                parameters={
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "path": {"type": "string"}},
                    "required": ["name", "path"],
                },
            )
        ]

    async def _get_resource_template(self, uri: str, version: VersionSpec | None = None) -> ResourceTemplate | None:
        return None  # every file that exists is found as a resource

    # What `SkillsExtension` asks of a source (`fastmcp.skills._source`).

    async def _list_skill_entries(self, context: Any) -> Sequence[SkillEntry]:
        return (await self._catalog()).entries()

    async def _get_skill_entry(self, uri: str, context: Any) -> SkillEntry | None:
        view = await self._live.view()
        name = _name_in(uri)
        return view.catalog.entry(name) if name in view.bank.texts else None

    async def _skill_uris(self, uri: str | None = None) -> Sequence[str]:
        names = (await self._live.view()).bank.texts
        if uri is None:
            return [skill_uri(name) for name in names]
        return [uri] if _name_in(uri) in names else []

    def _owns_skill_resource(self, uri: str) -> bool:
        return uri.startswith("skill://")

    def _validate_skill_source(self) -> None:
        """Nothing to refuse: the bank has checked its skills."""


def _frontmatter(name: str, text: str) -> SkillFrontmatter:
    head = split_frontmatter(normal_lines(text), ProblemLog(name))
    assert head is not None, f"{name}: a skill of the bank has a frontmatter"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # both safe; the first is fast
    return SkillFrontmatter.model_validate(yaml.load(head[0], Loader=loader))


def _name_in(uri: str) -> str:
    prefix, suffix = "skill://", "/SKILL.md"
    return uri[len(prefix) : -len(suffix)] if uri.startswith(prefix) and uri.endswith(suffix) else ""


def _mime(uri: str) -> str:
    if uri.endswith("/_manifest"):
        return "application/json"
    suffix = "." + uri.rpartition(".")[2]
    return _TEXT.get(suffix) or mimetypes.guess_type(uri)[0] or "application/octet-stream"


def _is_text(mime: str) -> bool:
    return mime.startswith("text/") or mime in _TEXT.values()
