"""Segmenting folders of millions of frames: what to do, doing it, and the record of what was done."""
