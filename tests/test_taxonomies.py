"""The taxonomies that come with roadseg: their classes, and colours that colour-blind readers tell apart."""

import numpy as np
import pytest

from roadseg.taxonomy import Taxonomy, list_taxonomies, load_taxonomy

GROUPS = {"surface", "marking", "furniture", "construction", "nature", "dynamic", "other"}
HDMAP = [
    "road", "lane_marking", "crosswalk", "curb", "sidewalk", "barrier", "wall", "pole", "street_light", "traffic_sign",
    "traffic_light", "manhole", "building", "vegetation", "terrain", "sky", "vehicle", "two_wheeler", "person", "other",
]  # fmt: skip
LANES = ["lane_solid", "lane_dashed", "lane_double", "lane_stop_line", "lane_arrow", "lane_zebra", "lane_other"]

# What a reader without one kind of cone sees, on linear RGB. Machado, Oliveira and Fernandes, 2009, severity 1.0:
MACHADO = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Viénot, Brettel and Mollon, 1999:
VIENOT = {
    "protan": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deutan": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}
# Brettel, Viénot and Mollon, 1997, for tritan: one matrix for each side of a plane through grey.
BRETTEL = [
    [[1.01277, 0.13548, -0.14826], [-0.01243, 0.86812, 0.14431], [0.07589, 0.80500, 0.11911]],
    [[0.93678, 0.18979, -0.12657], [0.06154, 0.81526, 0.12320], [-0.37562, 1.12767, 0.24796]],
]
BRETTEL_PLANE = [0.03901, -0.02788, -0.01113]
VISIONS = ["normal", *(f"{v}, Machado" for v in MACHADO), *(f"{v}, Viénot" for v in VIENOT), "tritan, Brettel"]


def linear(colours):
    c = np.asarray(colours, float) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def seen(rgb, vision):
    kind, _, model = vision.partition(", ")
    if model == "Brettel":
        warm, cold = (rgb @ np.array(m).T for m in BRETTEL)
        return np.where((rgb @ BRETTEL_PLANE >= 0)[:, None], warm, cold)
    if model:
        return rgb @ np.array({"Machado": MACHADO, "Viénot": VIENOT}[model][kind]).T
    return rgb


def cielab(rgb):
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    )
    t = np.clip(rgb, 0, 1) @ matrix.T / matrix.sum(1)
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def closest(colours, vision):
    """CIELAB distance (1976) of the two colours that this reader confuses most easily, and which they are."""
    lab = cielab(seen(linear(colours), vision))
    distance = np.linalg.norm(lab[:, None] - lab, axis=2) + 1e3 * np.eye(len(lab))
    return distance.min(), divmod(int(distance.argmin()), len(lab))


def test_the_yardstick_is_right():
    # CIELAB of the sRGB primaries (D65) as Lindbloom's calculator gives them.
    expected = [[53.2408, 80.0925, 67.2032], [87.7347, -86.1827, 83.1793], [32.2970, 79.1875, -107.8602], [100, 0, 0]]
    primaries = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    np.testing.assert_allclose(cielab(linear(primaries)), expected, atol=0.02)
    greys = linear([(v, v, v) for v in range(0, 256, 51)])
    for vision in VISIONS:
        np.testing.assert_allclose(seen(greys, vision), greys, atol=1e-4)  # every reader sees grey as it is
    red_and_green = [(200, 60, 60), (105, 105, 60)]
    assert closest(red_and_green, "normal")[0] > 50 and closest(red_and_green, "deutan, Viénot")[0] < 16
    blue_and_green = [(0, 130, 150), (0, 138, 110)]
    assert closest(blue_and_green, "tritan, Brettel")[0] < closest(blue_and_green, "normal")[0] / 2
    red = linear([(255, 0, 0)])  # the side of the plane on which red hardly changes is the side of red
    assert np.abs(seen(red, "tritan, Brettel") - red).max() < 0.1


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize(("name", "least"), [("hdmap", 16.5), ("hdmap-synthetic", 17.0), ("hdmap-lanes", 12.5)])
def test_no_two_colours_look_alike_to_any_reader(name, least, vision):
    taxonomy = load_taxonomy(name)
    distance, pair = closest([c.colour for c in taxonomy.classes], vision)
    assert distance >= least, f"{vision}: {taxonomy.names[pair[0]]} and {taxonomy.names[pair[1]]}"


def test_the_packaged_taxonomies_have_their_numbers_of_classes():
    expected = {"hdmap": 20, "hdmap-camvid": 14, "hdmap-lanes": 26, "hdmap-synthetic": 13}
    expected |= {"camvid11": 11, "camvid32": 31, "cityscapes19": 19}
    assert expected.items() <= {name: len(load_taxonomy(name)) for name in list_taxonomies()}.items()


@pytest.mark.parametrize("name", list_taxonomies())
def test_every_packaged_taxonomy_is_unambiguous_and_in_known_groups(name):
    taxonomy = load_taxonomy(name)
    assert taxonomy.name == name and taxonomy.version >= 1
    assert len(set(taxonomy.names)) == len({c.colour for c in taxonomy.classes}) == len(taxonomy)
    assert {c.group for c in taxonomy.classes} <= GROUPS


def test_hdmap_has_the_published_ids_and_a_sensible_group_for_each():
    taxonomy = load_taxonomy("hdmap")
    assert (taxonomy.names, taxonomy.version, taxonomy.family) == (HDMAP, 1, "hdmap")
    groups = {group: {c.name for c in taxonomy.classes if c.group == group} for group in GROUPS}
    assert groups == {
        "surface": {"road", "curb", "sidewalk", "manhole"},
        "marking": {"lane_marking", "crosswalk"},
        "furniture": {"pole", "street_light", "traffic_sign", "traffic_light"},
        "construction": {"barrier", "wall", "building"},
        "nature": {"vegetation", "terrain", "sky"},
        "dynamic": {"vehicle", "two_wheeler", "person"},
        "other": {"other"},
    }


def test_hdmap_lanes_is_hdmap_with_its_markings_told_apart():
    whole, lanes = load_taxonomy("hdmap"), load_taxonomy("hdmap-lanes")
    at = HDMAP.index("lane_marking")
    assert lanes.names == HDMAP[:at] + LANES + HDMAP[at + 1 :] and lanes.family == "hdmap"
    assert {c for c in lanes.classes if c.refines is None} == {c for c in whole.classes if c.name != "lane_marking"}
    refined = [c for c in lanes.classes if c.refines is not None]
    assert {(c.refines, c.group) for c in refined} == {("lane_marking", "marking")} and len(refined) == 7


def test_a_class_of_the_hdmap_family_looks_the_same_everywhere():
    family = [load_taxonomy(name) for name in list_taxonomies() if load_taxonomy(name).family == "hdmap"]
    assert {taxonomy.name for taxonomy in family} == {"hdmap", "hdmap-camvid", "hdmap-lanes", "hdmap-synthetic"}
    looks: dict[str, set] = {}
    for c in (c for taxonomy in family for c in taxonomy.classes):
        looks.setdefault(c.name, set()).add((c.colour, c.group, c.left_right, c.refines))
    assert not {name: look for name, look in looks.items() if len(look) > 1}
    known = set(load_taxonomy("hdmap").names)  # every name is hdmap's, or a part of one of hdmap's
    assert all(c.name in known or c.refines in known for taxonomy in family for c in taxonomy.classes)


def test_hdmap_camvid_is_a_subset_in_hdmaps_order():
    taxonomy = load_taxonomy("hdmap-camvid")
    absent = {"crosswalk", "curb", "street_light", "manhole", "terrain", "other"}
    assert taxonomy.names == [name for name in HDMAP if name not in absent] and taxonomy.family == "hdmap"


CITYSCAPES = """
    128 64 128 road, 244 35 232 sidewalk, 70 70 70 building, 102 102 156 wall, 190 153 153 fence, 153 153 153 pole,
    250 170 30 traffic light, 220 220 0 traffic sign, 107 142 35 vegetation, 152 251 152 terrain, 70 130 180 sky,
    220 20 60 person, 255 0 0 rider, 0 0 142 car, 0 0 70 truck, 0 60 100 bus, 0 80 100 train, 0 0 230 motorcycle,
    119 11 32 bicycle
"""  # in the order of train ids, as cityscapesScripts has them


CAMVID = """
    64 128 64 Animal, 192 0 128 Archway, 0 128 192 Bicyclist, 0 128 64 Bridge, 128 0 0 Building, 64 0 128 Car,
    64 0 192 CartLuggagePram, 192 128 64 Child, 192 192 128 Column_Pole, 64 64 128 Fence, 128 0 192 LaneMkgsDriv,
    192 0 64 LaneMkgsNonDriv, 128 128 64 Misc_Text, 192 0 192 MotorcycleScooter, 128 64 64 OtherMoving,
    64 192 128 ParkingBlock, 64 64 0 Pedestrian, 128 64 128 Road, 128 128 192 RoadShoulder, 0 0 192 Sidewalk,
    192 128 128 SignSymbol, 128 128 128 Sky, 64 128 192 SUVPickupTruck, 0 0 64 TrafficCone, 0 64 64 TrafficLight,
    192 64 128 Train, 128 128 0 Tree, 192 128 192 Truck_Bus, 64 0 64 Tunnel, 192 192 0 VegetationMisc, 64 192 0 Wall
"""  # label_colors.txt as published, without Void


@pytest.mark.parametrize(("name", "published"), [("cityscapes19", CITYSCAPES), ("camvid32", CAMVID)])
def test_a_public_taxonomy_has_the_published_order_names_and_colours(name, published):
    rows = [row.split(maxsplit=3) for row in published.split(",")]
    expected = [(label.strip(), (int(r), int(g), int(b))) for r, g, b, label in rows]
    assert [(c.name, c.colour) for c in load_taxonomy(name).classes] == expected


def test_no_packaged_class_needs_a_partner_in_the_mirror():
    # An arrow that turns left becomes one that turns right, but no taxonomy here tells them apart.
    taxonomies: list[Taxonomy] = [load_taxonomy(name) for name in list_taxonomies()]
    assert {c.left_right for taxonomy in taxonomies for c in taxonomy.classes} == {None}
    words = {word for taxonomy in taxonomies for name in taxonomy.names for word in name.replace("_", " ").split()}
    assert not words & {"left", "right"}
