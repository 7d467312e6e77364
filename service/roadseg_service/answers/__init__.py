"""Answers: what a request asks for, and a segmentation encoded as that."""
