"""The bank: taxonomy, skills, evidence, versions, encoder, risk check and selection."""
