"""Addresses of the resources."""

MANIFEST = "bank://manifest"
TAXONOMY = "bank://taxonomy"
EVIDENCE = "bank://skill/{name}/evidence"
REPORT = "evolve://runs/{id}/report"


def skill_uri(name: str, path: str = "SKILL.md") -> str:
    """Return the address of a file of a skill."""
    return f"skill://{name}/{path}"


def report_uri(run: str) -> str:
    """Return the address of the report of an evolution."""
    return REPORT.format(id=run)
