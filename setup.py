"""Map the top-level folders to `esc_skills.*` (a hand-kept list would drop a new sub-package without a word)."""

from setuptools import find_packages, setup

FOLDERS = ("server", "skills_bank", "pipeline", "simulator", "evolve")
found = [p for p in find_packages() if p.split(".")[0] in FOLDERS]
setup(packages=[f"esc_skills.{p}" for p in found], package_dir={f"esc_skills.{f}": f for f in FOLDERS})
