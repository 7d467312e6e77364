"""Models of different answers, as files, and a service that may change between them."""

import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from service_asserts import mask_in
from service_corpus import NUM_CLASSES, mask_of, png, scene
from service_running import HEADER, FakeEngine, running

from roadseg.inference.artefact import read_model
from roadseg.inference.package import write_model_file
from roadseg.inference.predictor import Predictor

ADMIN_KEY = "an-admin-key-for-tests-only"
USER_KEY = "a-user-key-for-tests-only"


class ShiftedEngine(FakeEngine):
    """The fake network, its classes moved on by a number, so that its masks tell which model made them."""

    def __init__(self, shift):
        super().__init__()
        self.shift = shift
        self.shapes = []

    def run(self, images, outputs, *, rescale=True):
        self.shapes.append(images.shape[:3])
        answer = super().run(images, outputs, rescale=rescale)
        return {"mask": (answer["mask"] + self.shift) % NUM_CLASSES}


def shifted(mask, shift):
    return (mask + shift) % NUM_CLASSES


def write_model(path, shift, taxonomy=HEADER.taxonomy):
    """A model file whose header says by what it shifts; gives its digest."""
    header = replace(HEADER, taxonomy=taxonomy, provenance={"shift": shift})
    return write_model_file(path, header, {"weight": np.zeros(3, np.float32)})


def open_shifted(path):
    """What loading such a file gives."""
    file = read_model(path)
    return Predictor(ShiftedEngine(file.header.provenance["shift"]), file.header, file.digest)


class Swapping:
    """A service with a folder of the models 0, 1, 2 and so on, that answers with model 0; and its admin's client."""

    def __init__(self, service, folder, digests):
        self.service = service
        self.folder = folder
        self.digests = digests
        self.client = service.client
        self.slot = service.app.state.service.model
        self.loader = service.app.state.service.loader

    def change(self, model, headers=None, **fields):
        name = f"model_{model}.safetensors" if isinstance(model, int) else str(model)
        return self.client.post("/v1/models", json={"model": name, **fields}, headers=headers)

    def roll_back(self):
        return self.client.post("/v1/models/rollback")

    def state(self):
        return self.client.get("/v1/models").json()

    def active(self):
        """Which model answers, by its digest."""
        return self.digests.index(self.state()["models"][0]["digest"])


@contextmanager
def swapping(folder, count=3, opened=open_shifted, **settings):
    models = folder / "models"
    models.mkdir()
    digests = [write_model(models / f"model_{i}.safetensors", i) for i in range(count)]
    keys = folder / "keys"
    keys.write_text(f"boss:admin:{ADMIN_KEY}\nworker:user:{USER_KEY}\n")
    keys.chmod(0o600)
    first = models / "model_0.safetensors"
    values = {"model": str(first), "models_dir": str(models), "api_keys_file": str(keys), **settings}
    with running(lambda: open_shifted(first), open_model=opened, **values) as service:
        service.client.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        yield Swapping(service, models, digests)


def wait_until_idle(swap):
    deadline = time.monotonic() + 30
    while (state := swap.state())["loading"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return state


def ask(swap, pixels=None):
    """Which model answers an upload, by its mask; its digest must be the same one's."""
    pixels = scene() if pixels is None else pixels
    answer = swap.client.post("/segment", content=png(pixels))
    mask = mask_in(answer)
    (shift,) = (i for i in range(len(swap.digests)) if (mask == shifted(mask_of(pixels), i)).all())
    assert answer.headers["X-Roadseg-Model-Digest"] == swap.digests[shift]
    assert answer.headers["X-Roadseg-Model"] == f"model_{shift}"
    return shift


def unharmed(swap):
    """Model 0 answers, nothing else is kept, and another change is possible."""
    state = swap.state()
    assert [model["digest"] for model in state["models"]] == [swap.digests[0]]
    assert state["loading"] is None
    assert ask(swap) == 0
    assert swap.client.get("/readyz").status_code == 200
    assert swap.change(1).status_code == 200
    assert ask(swap) == 1
