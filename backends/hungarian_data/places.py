"""Where the images of a file of COCO are: in which of several folders, and never by a guess."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path, PurePosixPath

from hungarian_data.gathering import Gathering

# Words that tell no split: in the name of a folder, and in that of a file of JSON.
PLAIN = frozenset(("image", "images", "img", "imgs", "jpegimages"))
# What a split is called, too.
SAME = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


def tokens(name: str) -> list[str]:
    """Return the words of a name with their digits, as train2017 of instances_train2017."""
    return re.findall(r"[^\W_]+", name.casefold())


def words(name: str) -> list[str]:
    """Return the words of a name without digits, splits by their shortest names."""
    found = re.findall(r"[^\W\d_]+", name.casefold())
    return [SAME.get(word, word) for word in found]


def annotates(folder: Path) -> bool:
    """Tell whether a folder holds annotations, and images lie beside it."""
    return folder.name.casefold() == "annotations"


def with_suffix(folder: Path, *suffixes: str) -> list[Path]:
    """Return what a folder holds that ends so, in any case, but hidden files."""
    there = (x for x in folder.iterdir() if x.suffix.lower() in suffixes and x.name[0] != ".")
    return sorted(there)


class Places:
    """Finds the images of a file of JSON in its folder, in `images`, and in folders in these.

    Where several have an image of one name, the folder is taken whose name has the most words of
    the file's name, then those with their digits, then the fewest others: `train2` and not
    `train` for `train2.json`, `images` and not `masks` for `all.json`.
    """

    def __init__(self, path: Path, gathering: Gathering) -> None:
        self.path, self.gathering = path, gathering
        self.root = path.parent.parent if annotates(path.parent) else path.parent
        inside = _folders(self.root)
        deeper = [
            x for place in inside if place.name.casefold() == "images" for x in _folders(place)
        ]
        self.ranks = {x: self._rank(x) for x in (self.root, *sorted(inside + deeper))}
        self.taken: Counter[Path] = Counter()
        self.folded: dict[Path, dict[str, list[Path]]] = {}

    def _rank(self, folder: Path) -> tuple[int, int, int]:
        """Return how many words a folder has of the file's, with digits, and less the others."""
        if folder == self.root:
            return 0, 0, 0
        own, exact = ({*split(folder.name)} - PLAIN for split in (words, tokens))
        named = {*words(self.path.stem)}
        return len(own & named), len(exact & {*tokens(self.path.stem)}), -len(own - named)

    def find(self, entry: str, name: object) -> Path | None:
        """Return where an image is, or None, as a problem that is told."""
        relative = (
            PurePosixPath(name.replace("\\", "/")) if isinstance(name, str) and name else None
        )
        if relative is None:
            what = f"the file_name is {name!r}; expected that of an image"
        elif relative.is_absolute() or ".." in relative.parts:
            what = f"the file_name {name!r} leads out of the folder"
        else:
            exact = {x: [x / relative] for x in self.ranks if os.path.isfile(x / relative)}
            there = exact or {x: self._other_case(x / relative) for x in self.ranks}
            highest = max((self.ranks[x] for x in there if there[x]), default=None)
            best = [(x, path) for x in there if self.ranks[x] == highest for path in there[x]]
            if len(best) == 1:
                ((folder, path),) = best
                self.taken[folder] += 1
                return path
            what = f"there is no image {name!r}"
            if best:
                what = (
                    f"the file_name {name!r} may be {' or '.join(str(path) for _, path in best)}; "
                    "give it with its folder, or call the folder by a word of the JSON's name"
                )
        self.gathering.problem(self.path, entry, what)
        return None

    def _other_case(self, path: Path) -> list[Path]:
        """Return what is called so but for the case, as file systems find it that ignore case."""
        if path.parent not in self.folded:
            there = path.parent.iterdir() if os.path.isdir(path.parent) else ()
            self.folded[path.parent] = {}
            for x in sorted(there):
                self.folded[path.parent].setdefault(x.name.casefold(), []).append(x)
        return [x for x in self.folded[path.parent].get(path.name.casefold(), ()) if x.is_file()]

    def note_others(self) -> None:
        """Note images that were found in the folder of another split alone."""
        own = [x for x, (shared, *_) in self.ranks.items() if shared]
        for folder, count in self.taken.items():
            if own and self.ranks[folder] < (0, 0, 0):
                what = f"{count} images are not in {own[0]}, and are taken from {folder}"
                self.gathering.note(self.path, "", what)


def _folders(folder: Path) -> list[Path]:
    return [x for x in folder.iterdir() if x.is_dir()]
