"""A dataset of synthetic scenes: no files, and the same scenes wherever it runs."""

import operator

import numpy as np
import numpy.typing as npt

from roadseg.data.synthetic.classes import SYNTHETIC_TAXONOMY
from roadseg.data.synthetic.scene import check_seed, check_size, render_scene
from roadseg.errors import ConfigError
from roadseg.taxonomy import Taxonomy, load_taxonomy


class SyntheticRoadDataset:
    """A fixed number of scenes, rendered when asked for.

    Args:
        length: number of scenes, at least 1.
        size: (H, W) of every scene in px.
        seed: non-negative; datasets of different seeds share no scene, and a longer one begins with the shorter one's.

    Raises:
        ConfigError: when a value is out of range.
    """

    def __init__(self, length: int, size: tuple[int, int] = (256, 384), seed: int = 0) -> None:
        """Check the settings; nothing is rendered yet."""
        try:
            self._length = operator.index(length)
        except TypeError:
            self._length = 0
        if self._length < 1:
            raise ConfigError(f"length of the synthetic dataset is {length!r}; give an integer of 1 or more")
        self._size, self._seed = check_size(size), check_seed(seed)
        self._taxonomy = load_taxonomy(SYNTHETIC_TAXONOMY)

    @property
    def taxonomy(self) -> Taxonomy:
        """The taxonomy of the masks."""
        return self._taxonomy

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every scene."""
        return self._size

    @property
    def names(self) -> list[str]:
        """Names of all scenes, by index."""
        return [self._name(i) for i in range(self._length)]

    def __len__(self) -> int:
        """Number of scenes."""
        return self._length

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], str]:
        """Render one scene.

        Args:
            index: from 0 to len - 1.

        Returns:
            Image (H, W, 3) uint8 RGB, mask (H, W) uint8 class ids, and the scene's name.

        Raises:
            IndexError: when the index is out of range.
        """
        number = operator.index(index)
        if not 0 <= number < self._length:
            raise IndexError(f"scene {index} of a synthetic dataset of {self._length}; give 0 to {self._length - 1}")
        scene = render_scene(self._scene_seed(number), self._size)
        return scene.image, scene.mask, self._name(number)

    def verify(self) -> None:
        """Nothing to check, since nothing lies on disk; here so that all datasets can be asked."""

    def _scene_seed(self, index: int) -> int:
        # 128 bits that depend on both numbers, so that seed 1, index 2 is not seed 2, index 1 or seed 3, index 0.
        words = np.random.SeedSequence(self._seed, spawn_key=(index,)).generate_state(4, np.uint32)
        return sum(int(word) << (32 * i) for i, word in enumerate(words))

    def _name(self, index: int) -> str:
        return f"synthetic-{self._seed:08d}-{index:06d}"
