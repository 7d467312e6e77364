"""Names that users choose among; light, so that commands can offer them before anything heavy is imported."""

ARTEFACT_FORMATS = ("onnx", "openvino", "tensorrt", "torch")
"""What `roadseg export` makes; each is run by the engine of its name."""

ARTEFACT_PRECISIONS = ("f32", "f16", "bf16", "int8")
PRECISIONS = ("auto", *ARTEFACT_PRECISIONS)
