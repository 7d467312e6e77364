"""Decoders: four features in, logits at stride 4 out."""
