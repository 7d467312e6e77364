"""Measuring models on engines: time, memory, and how near the engine comes to what it can compute."""
