"""The peer: LitServe serving the same predictor; run by an interpreter that has litserve.

python -m benchmarks.service.litserve_peer ARTEFACT PORT WORKERS
"""

import sys
from typing import Any

import litserve
from fastapi import Request, Response

from roadseg.images import DecodedImage, decode_image
from roadseg.inference.predictor import load_predictor
from roadseg.inference.result import SegmentationResult


class RoadApi(litserve.LitAPI):  # type: ignore[misc]
    """Decodes, segments and encodes in LitServe's worker process, as its documentation shows."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.predictor = load_predictor(sys.argv[1])

    def decode_request(self, request: Request) -> DecodedImage:
        """The image in a form's field `file`."""
        form: Any = request
        return decode_image(form["file"].file.read())

    def predict(self, image: DecodedImage) -> SegmentationResult:
        """Its mask."""
        return self.predictor(image)

    def encode_response(self, result: SegmentationResult) -> Response:
        """The mask as a PNG."""
        return Response(result.png(), media_type="image/png")


if __name__ == "__main__":
    server = litserve.LitServer(RoadApi(api_path="/segment"), accelerator="cpu", workers_per_device=int(sys.argv[3]))
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
