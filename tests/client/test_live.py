"""The client against the running service, whose masks are compared with the predictor's own."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from roadseg.client import AsyncClient, Client
from roadseg.client.models import read_models
from roadseg.client.wire import Reply
from roadseg.errors import ImageError, ServiceError, ServiceImageError
from roadseg.inference.predictor import Predictor
from roadseg.taxonomy import RoadClass, Taxonomy, list_taxonomies, load_taxonomy

KINDS = ("JPEG", "PNG", "WEBP")


@pytest.fixture(scope="module")
def client(service):
    with Client(f"http://127.0.0.1:{service.port}") as client:
        yield client


@pytest.fixture(scope="module")
def predictor():
    from service_running import DIGEST, HEADER, FakeEngine

    return Predictor(FakeEngine(), HEADER, DIGEST)


def check_same(result, expected):
    np.testing.assert_array_equal(result.mask, expected.mask)
    np.testing.assert_array_equal(result.image, expected.image)
    assert result.model_digest == expected.model_digest
    assert result.exif_orientation == expected.exif_orientation
    assert result.taxonomy == expected.taxonomy
    assert result.png() == expected.png()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", ["displayed", "stored"])
def test_results_are_the_predictors_own(client, predictor, kind, orientation):
    from service_corpus import with_orientation

    data = with_orientation(kind, 6)
    check_same(client.segment(data, orientation=orientation), predictor(data, orientation=orientation))


def test_every_kind_of_image_gives_what_the_predictor_gives(client, predictor, tmp_path):
    from service_corpus import jpeg, scene

    path = tmp_path / "drive.jpg"
    path.write_bytes(jpeg())
    turned = Image.open(path)
    turned.getexif()[0x0112] = 8
    for image in (path, str(path), path.read_bytes(), scene(), Image.fromarray(scene()), turned):
        check_same(client.segment(image), predictor(image))


def test_many_images_of_many_sizes_all_get_their_own_masks(client, predictor):
    from service_corpus import scene

    images = [scene(9 + i % 7, 11 + i % 5, seed=i) for i in range(60)]
    found = list(client.segment_many(images, concurrency=8))
    assert len({id(image) for image, _ in found}) == 60
    for image, result in found:
        np.testing.assert_array_equal(result.mask, predictor(image).mask)


def test_a_folder_gets_the_masks_that_the_predictor_writes(client, predictor, tmp_path):
    from service_corpus import jpeg, scene

    for i in range(6):
        (tmp_path / "drive").mkdir(exist_ok=True)
        (tmp_path / "drive" / f"{i}.jpg").write_bytes(jpeg(scene(seed=i)))
    client.segment_folder(tmp_path / "drive", tmp_path / "masks")
    for i in range(6):
        expected = predictor(tmp_path / "drive" / f"{i}.jpg").png()
        assert (tmp_path / "masks" / f"{i}.png").read_bytes() == expected


def test_asyncio_gives_the_same(url, predictor):
    from service_corpus import jpeg

    async def run():
        async with AsyncClient(url) as client:
            return await client.segment(jpeg())

    check_same(asyncio.run(run()), predictor(jpeg()))


def test_classes_that_are_not_wanted_are_left_out_of_mask(client, predictor):
    from service_corpus import scene

    expected = predictor(scene()).mask
    result = client.segment(scene(), classes=["class_1", 3])
    np.testing.assert_array_equal(result.mask, np.where(np.isin(expected, [1, 3]), expected, 255))


def test_a_wrong_parameter_is_the_services_to_explain(client):
    from service_corpus import scene

    with pytest.raises(ServiceError, match="class_9") as caught:
        client.segment(scene(), classes=["class_9"])
    assert caught.value.status == 422 and caught.value.type == "invalid-parameter"


def test_an_image_that_the_service_finds_too_large_is_an_image_error(client):
    with pytest.raises(ServiceImageError, match="the array") as caught:
        client.segment(np.zeros((1100, 1000, 3), np.uint8))
    assert caught.value.type == "image-too-large" and isinstance(caught.value, ImageError)


def test_the_model_is_listed_with_its_classes(client, predictor):
    (model, *_) = client.models()
    assert (model.digest, model.taxonomy) == (predictor.digest, predictor.taxonomy)
    assert (model.engine, model.device) == ("fake", "none")


@pytest.mark.parametrize("name", list_taxonomies())
def test_each_taxonomy_comes_through_the_list_of_models_as_it_is(name):
    from roadseg_service.routes.taxonomy import taxonomy_info

    taxonomy = load_taxonomy(name)
    listed = {"name": "n", "digest": "d", "taxonomy": taxonomy_info(taxonomy).model_dump(mode="json")}
    (model,) = read_models(Reply(200, {}, json.dumps({"models": [listed]}).encode()))
    assert model.taxonomy == taxonomy


def test_groups_partners_and_family_come_with_a_mask_and_into_a_folders_record(tmp_path):
    from service_corpus import jpeg
    from service_running import DIGEST, HEADER, FakeEngine, running

    taxonomy = Taxonomy(
        "kerbs_fine",
        2,
        (
            RoadClass("kerb_left", (1, 2, 3), "edge", "kerb_right", "kerb"),
            RoadClass("road", (9, 9, 9), "surface"),
            RoadClass("kerb_right", (4, 5, 6), "edge", "kerb_left", "kerb"),
            RoadClass("sky", (0, 0, 1), "void"),
            RoadClass("sign", (0, 0, 2), "furniture"),
        ),
        family="kerbs",
    )
    (tmp_path / "a.jpg").write_bytes(jpeg())
    loaded = Predictor(FakeEngine(), replace(HEADER, taxonomy=taxonomy), DIGEST)
    with running(lambda: loaded) as service, Client(f"http://127.0.0.1:{service.port}") as client:
        assert client.segment(jpeg()).taxonomy == taxonomy
        client.segment_folder(tmp_path / "a.jpg", tmp_path / "masks")
    with (tmp_path / "masks" / "manifest.jsonl").open() as manifest:
        assert json.loads(manifest.readline())["taxonomy"] == taxonomy.to_dict()


def test_neither_the_package_nor_the_clients_name_import_httpx_or_torch():
    code = "import sys, roadseg, roadseg.client; assert not {'httpx', 'torch'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_client_needs_no_torch_and_no_service():
    code = (
        "import sys; from roadseg.client import Client; import roadseg.client.folder;"
        "assert not {'torch', 'lightning', 'fastapi', 'pycocotools', 'roadseg_service'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_httpx_the_extra_is_named():
    code = (
        "import sys; sys.modules['httpx'] = None\n"
        "import roadseg.client\n"
        "from roadseg.errors import MissingExtraError\n"
        "try: roadseg.client.Client\n"
        "except MissingExtraError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "'httpx'" in told and ".[client]" in told
