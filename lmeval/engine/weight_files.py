"""A folder's weight files, looked at before anything loads them: whole, of tensors alone, and where its index says.

A safetensors file is eight bytes of length, a JSON header that places each tensor, and the tensors; so a look at the
header tells a damaged file from a whole one, and says how large a model can be (https://github.com/huggingface/safetensors).
Pickled files (`pytorch_model.bin`) are programs; none is opened here, and none at all unless the user allows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmeval.errors import ModelError

SAFE_FILES = "*.safetensors"
PICKLED_FILES = ("pytorch_model*.bin", "adapter_model.bin")  # what else ends in .bin holds no weights
LONGEST_HEADER_BYTES = 100 * 10**6  # as safetensors itself has it
LONGEST_JSON_BYTES = 10**8
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
INDEX_SUFFIX = ".index.json"

ALLOW_PICKLE = "--allow-pickle"
FETCH_AGAIN = "download or copy it again, and compare its size with the original's"


@dataclass(frozen=True, slots=True)
class Contents:
    """What the headers of some weight files say."""

    shapes: Mapping[str, tuple[int, ...]]  # of each tensor, by name

    @property
    def largest_dimension(self) -> int:
        """Of any tensor."""
        return max((size for shape in self.shapes.values() for size in shape), default=0)


def weight_files(folder: Path) -> list[Path]:
    """The files a folder's weights are in, by name; safetensors where there are any."""
    for pattern in (SAFE_FILES, *PICKLED_FILES):
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def are_pickled(files: Iterable[Path]) -> bool:
    """Whether any of some weight files is pickled."""
    return any(file.suffix == ".bin" for file in files)


def check_weight_files(folder: Path, *, allow_pickle: bool, is_adapter: bool = False) -> Contents | None:
    """What a folder's weight files hold; None for pickled ones, which are not opened.

    Raises:
        ModelError: There are none, one is damaged or missing, or they are pickled and that was not allowed.
    """
    stem = "adapter_model" if is_adapter else "model"
    safe = _files_of(folder, f"{stem}.safetensors", ".safetensors")
    if safe is not None:
        shapes = [check_safetensors(file) for file in safe]
        return Contents({name: shape for of_file in shapes for name, shape in of_file.items()})
    pickled = _files_of(folder, f"{stem if is_adapter else 'pytorch_model'}.bin", ".bin")
    if pickled is None:
        raise _no_weights(folder, is_adapter)
    if not allow_pickle:
        raise ModelError(
            f"the weights in {folder} are pickled ({pickled[0].name}), and a pickle can run code when it is opened",
            fix=f"use a copy saved as .safetensors, or give {ALLOW_PICKLE}: only tensors are read then, never code",
        )
    for file in pickled:
        check_there(file)
    return None


def _no_weights(folder: Path, is_adapter: bool) -> ModelError:
    wanted = "adapter_model.safetensors" if is_adapter else "model.safetensors"
    names = sorted(file.name for pattern in (SAFE_FILES, "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
                   for file in folder.glob(pattern))  # fmt: skip
    found = f"; what is there ({', '.join(names[:4])}) is not read" if names else ""
    return ModelError(
        f"{folder} holds no {wanted} and no {wanted}{INDEX_SUFFIX}{found}",
        fix="give the folder that save_pretrained wrote, or convert the weights with it",
    )


def _files_of(folder: Path, name: str, suffix: str) -> list[Path] | None:
    """The file of this name, or the shards that its index names; None where there is neither."""
    if (folder / name).is_file():
        return [folder / name]
    index = folder / f"{name}{INDEX_SUFFIX}"
    if not index.is_file():
        return None
    values = read_json_object(index)
    shards = values.get("weight_map")
    if not isinstance(shards, Mapping) or not shards or not all(isinstance(s, str) for s in shards.values()):
        raise ModelError(f"{index} has no weight_map from tensors to files", fix=FETCH_AGAIN)
    if not isinstance(values.get("metadata"), Mapping):  # without which transformers does not read it
        raise ModelError(f"{index} has no metadata", fix=FETCH_AGAIN)
    names = sorted(set(shards.values()))
    for shard in names:
        if Path(shard).name != shard or "\\" in shard or not shard.endswith(suffix):
            raise ModelError(
                f'{index} names "{shard[:200]}", which is no {suffix} file of its own folder',
                fix="an index names files beside it; this one is damaged, or not to be trusted",
            )
    missing = [shard for shard in names if not (folder / shard).is_file()]
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} of the {len(names)} files that {index.name} names, such as {missing[0]}",
            fix="download or copy the missing files",
        )
    return [folder / shard for shard in names]


def check_safetensors(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors, by its header.

    Raises:
        ModelError: It is empty, a placeholder, cut, or no safetensors file.
    """
    check_there(file)
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > LONGEST_HEADER_BYTES:
            raise ModelError(
                f"{file} is no safetensors file, or its start is damaged: its header would be {length:,} bytes long",
                fix=FETCH_AGAIN,
            )
        if 8 + length > size:
            raise _cut(file, size, f"its header alone is {length:,} bytes long")
        text = stream.read(length)
    try:
        header = json.loads(text)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
        shapes = {name: tuple(int(size) for size in entry["shape"]) for name, entry in entries.items()}
    except (ValueError, AttributeError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise ModelError(
            f"the header of {file} does not say where its tensors are", fix=FETCH_AGAIN
        ) from error
    wanted = 8 + length + max(ends, default=0)
    if wanted > size:
        raise _cut(file, size, f"its tensors end at {wanted:,}")
    return shapes


def _cut(file: Path, size: int, why: str) -> ModelError:
    return ModelError(f"{file} is cut off: it has {size:,} bytes, and {why}", fix=FETCH_AGAIN)


def check_gguf(file: Path) -> None:
    """Refuse what is no GGUF file by its first 24 bytes: magic, version, and how many tensors and keys follow.

    Raises:
        ModelError: It is empty, a placeholder, or no GGUF file.
    """
    check_there(file)
    size = file.stat().st_size
    with file.open("rb") as stream:
        magic, _, *counts = (stream.read(width) for width in (4, 4, 8, 8))
    if magic != b"GGUF" or size < 24:
        raise ModelError(
            f"{file} is no GGUF file: it does not begin with GGUF and two counts", fix=FETCH_AGAIN
        )
    tensors, keys = (int.from_bytes(count, "little") for count in counts)
    if (tensors + keys) * 12 > size:  # a name's length and a type are the least of each
        raise ModelError(
            f"{file} is damaged or cut off: {size:,} bytes do not hold its {tensors:,} tensors and {keys:,} keys",
            fix=FETCH_AGAIN,
        )


def check_there(file: Path) -> None:
    """Refuse a file that is empty, or that only stands for another one."""
    with file.open("rb") as stream:
        start = stream.read(64)
    if not start:
        raise ModelError(f"{file} is empty", fix=FETCH_AGAIN)
    if start.startswith(LFS_POINTER):
        raise ModelError(
            f"{file} is a placeholder of Git LFS, not the weights themselves",
            fix="run `git lfs pull` in the folder that you cloned, or download the file",
        )
    if start.lstrip()[:9].lower() in (b"<!doctype", b"<html>"):
        raise ModelError(f"{file} is a web page, not weights: its download failed", fix=FETCH_AGAIN)


def read_json_object(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ModelError: It does not; with what is wrong in it.
    """
    check_there(file)
    if file.stat().st_size > LONGEST_JSON_BYTES:
        raise ModelError(
            f"{file} has {file.stat().st_size:,} bytes, which no such file needs", fix=FETCH_AGAIN
        )
    try:
        found = json.loads(file.read_bytes().decode("utf-8-sig"))
    except RecursionError as error:
        raise ModelError(f"{file} is nested too deeply", fix=FETCH_AGAIN) from error
    except ValueError as error:
        raise ModelError(f"{file} is no JSON: {error}", fix=FETCH_AGAIN) from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no JSON object", fix=FETCH_AGAIN)
    return found
