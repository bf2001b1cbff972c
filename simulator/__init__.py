"""Simulated seekers (issue 4); empty until then."""
