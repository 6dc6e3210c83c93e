import os
import pathlib
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

PROGRAM: pathlib.Path

class Error(RuntimeError): ...

def version() -> str: ...
def show_log(shown: bool = True) -> None: ...

class Model:
    def __init__(self, model: str | os.PathLike[str] = "models/nano", /, **settings: Any) -> None: ...
    @property
    def image_size(self) -> tuple[int, int]: ...
    @overload
    def sample(
        self, prompts: str | Iterable[str], seeds: int | Iterable[int] = 0, *, floats: Literal[False] = False
    ) -> NDArray[np.uint8]: ...
    @overload
    def sample(self, prompts: str | Iterable[str], seeds: int | Iterable[int] = 0, *, floats: Literal[True]) -> NDArray[np.float32]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

class Reward:
    def __init__(self, reward: str = "emoji-clip", /, **settings: Any) -> None: ...
    def score(self, images: NDArray[np.uint8] | NDArray[np.floating[Any]], prompts: str | Iterable[str]) -> NDArray[np.float64]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

class Update:
    update: int
    updates: int
    reward_mean: float
    reward_sd: float
    grad_norm: float
    lr: float
    seconds: float
    images_per_second: float
    line: dict[str, Any]
    evaluation: dict[str, Any] | None

class Run:
    folder: pathlib.Path
    end: Literal["finished", "stopped", "finished before"]
    @property
    def summary(self) -> dict[str, Any]: ...
    @property
    def lora(self) -> pathlib.Path: ...

def align(
    run: str | os.PathLike[str],
    /,
    *,
    config: str | os.PathLike[str] | None = None,
    trust: Sequence[Literal["plugins", "torchscript", "http"]] = (),
    on_update: Callable[[Update], object] | None = None,
    **settings: Any,
) -> Run: ...
def run(*words: object, **options: Any) -> subprocess.CompletedProcess[Any]: ...
def main() -> None: ...
