"""Decoders: features at strides 4 to 32, or 2 to 32, in; logits at the decoder's `stride` out."""
