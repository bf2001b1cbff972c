"""Addresses of the resources."""

MANIFEST = "bank://manifest"
TAXONOMY = "bank://taxonomy"
EVIDENCE = "bank://skill/{name}/evidence"


def skill_uri(name: str, path: str = "SKILL.md") -> str:
    """Return the address of a file of a skill."""
    return f"skill://{name}/{path}"
