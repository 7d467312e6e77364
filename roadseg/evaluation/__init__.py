"""Scoring and comparing model files on labelled frames, as their user runs them: `roadseg eval`, `roadseg compare`."""
