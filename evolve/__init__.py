"""The evolution loop (issue 5); empty until then."""
