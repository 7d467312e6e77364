"""SIGHUP, in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from service_asserts import mask_in
from service_corpus import mask_of, png, scene
from service_models import shifted, write_model
from service_running import eventually

import roadseg
import roadseg_service

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")

SERVE = """
import sys
from pathlib import Path
from service_models import open_shifted
from roadseg_service import serve
from roadseg_service.app import create_app

serve.check_engine = lambda *_: None
path = Path(sys.argv[1])
serve.create_app = lambda settings, **options: create_app(settings, lambda: open_shifted(path), open_shifted, **options)
serve.main(str(path), "127.0.0.1", 0, log_format="json", drain_s=0)
"""


def test_it_loads_the_configured_file_again_and_never_ends_the_process(tmp_path):
    path = tmp_path / "current.safetensors"
    digests = [write_model(path, 0)]
    roots = [str(Path(module.__file__).parent.parent) for module in (roadseg, roadseg_service)]
    paths = os.pathsep.join([*roots, str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVE, str(path)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split()[-1]
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            process.send_signal(signal.SIGHUP)  # before it is ready, perhaps before it serves
            eventually(lambda: client.get("/readyz").status_code == 200, "the model")

            def digest():
                return client.get("/v1/models").json()["models"][0]["digest"]

            def last():
                attempt = client.get("/v1/models").json()["last_attempt"]
                return attempt["trigger"], attempt["outcome"]

            digests.append(write_model(path, 1))
            process.send_signal(signal.SIGHUP)
            eventually(lambda: digest() == digests[1], "the new file's model")
            assert (mask_in(client.post("/segment", content=png())) == shifted(mask_of(scene()), 1)).all()
            assert last() == ("reload", "succeeded")

            path.write_bytes(path.read_bytes()[:100])
            process.send_signal(signal.SIGHUP)
            eventually(lambda: last() == ("reload", "failed"), "the failure")
            path.unlink()
            process.send_signal(signal.SIGHUP)
            eventually(lambda: "no model file" in client.get("/v1/models").json()["last_attempt"]["detail"], "another")
            assert digest() == digests[1]
            assert (mask_in(client.post("/segment", content=png())) == shifted(mask_of(scene()), 1)).all()
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert log.count("could not be loaded") == 2
    finally:
        process.kill()
        process.wait()
