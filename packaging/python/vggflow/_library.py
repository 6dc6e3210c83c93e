"""The client of libvggflow_c.so (include/vggflow/c_api.h): the library computes, this turns arrays and exceptions."""

import ctypes
import dataclasses
import json
import operator
import os
import pathlib
import signal
import threading

import numpy as np

_ABI = 1
_FAILED, _STOPPED, _FINISHED_BEFORE, _INTERRUPTED = -1, 1, 2, 3
_FLOAT_NCHW, _UINT8_NHWC = 0, 1


class Error(RuntimeError):
    """What the library refused or failed at: what it expected, what it got, and what to do."""


class _Images(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("layout", ctypes.c_int32),
        ("data", ctypes.c_void_p),
    ]


class _Update(ctypes.Structure):
    _fields_ = [
        ("update", ctypes.c_int64),
        ("updates", ctypes.c_int64),
        ("reward_mean", ctypes.c_double),
        ("reward_sd", ctypes.c_double),
        ("grad_norm", ctypes.c_double),
        ("lr", ctypes.c_double),
        ("seconds", ctypes.c_double),
        ("images_per_second", ctypes.c_double),
        ("line", ctypes.c_char_p),
        ("evaluation", ctypes.c_char_p),
    ]


_OnUpdate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Update), ctypes.c_void_p)
_Texts = ctypes.POINTER(ctypes.c_char_p)

# Name: result, arguments.
_FUNCTIONS = {
    "vggflow_version": (ctypes.c_char_p, []),
    "vggflow_last_error": (ctypes.c_char_p, []),
    "vggflow_show_log": (None, [ctypes.c_int]),
    "vggflow_model_open": (ctypes.c_void_p, [_Texts, ctypes.c_size_t]),
    "vggflow_model_close": (None, [ctypes.c_void_p]),
    "vggflow_model_image_size": (ctypes.c_int, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(ctypes.c_int64)]),
    "vggflow_model_sample": (ctypes.c_int, [ctypes.c_void_p, _Texts, ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(_Images)]),
    "vggflow_scorer_open": (ctypes.c_void_p, [ctypes.c_char_p, _Texts, ctypes.c_size_t]),
    "vggflow_scorer_close": (None, [ctypes.c_void_p]),
    "vggflow_scorer_score": (ctypes.c_int, [ctypes.c_void_p, ctypes.POINTER(_Images), _Texts, ctypes.POINTER(ctypes.c_double)]),
    "vggflow_take_interrupts": (None, [ctypes.c_int]),
    "vggflow_align": (ctypes.c_int, [_Texts, ctypes.c_size_t, _OnUpdate, ctypes.c_void_p]),
}


# ---- the library itself


def _file():
    """libvggflow_c.so of the wheel, or the one that VGGFLOW_LIBRARY names (a build's)."""
    named = os.environ.get("VGGFLOW_LIBRARY")
    if named:
        return named
    from vggflow import PROGRAM, _require_torch

    _require_torch()
    return str(PROGRAM.parent / "lib" / "libvggflow_c.so")


def _load():
    # Threads that wait for work give the processor away soon, as in the program (docs/cli.md). The runtime reads this once.
    ours = not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"))
    if ours:
        os.environ["GOMP_SPINCOUNT"] = "10000"
    try:
        library = ctypes.CDLL(_file())
    except OSError as error:
        raise ImportError(f"vggflow's library does not load: {error}") from error
    finally:
        if ours:
            del os.environ["GOMP_SPINCOUNT"]
    library.vggflow_abi.restype = ctypes.c_uint32
    if library.vggflow_abi() != _ABI:
        raise ImportError(f"this package knows interface {_ABI} of vggflow's library, {_file()} has {library.vggflow_abi()}: install both together")
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_c = _load()


def _error():
    return Error(_c.vggflow_last_error().decode(errors="replace"))


# ---- texts and settings


def _text(value, what):
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise TypeError(f"expected {what} as text, got {type(value).__name__}")
    if "\0" in value:
        raise ValueError(f"expected {what} without NUL, got {value!r}")
    return value.encode()


def _texts(values, what):
    encoded = [_text(value, what) for value in values]
    return (ctypes.c_char_p * len(encoded))(*encoded), len(encoded)


def _yaml(key, value):
    """A setting's value as the library reads it: JSON is YAML."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(key, v) for v in value) + "]"
    if isinstance(value, (bool, int, float, str)):
        return json.dumps(value, ensure_ascii=False)
    raise TypeError(f"expected a text, a number, True, False, or a list of these for the setting {key}, got {value!r}")


def _settings(settings, prefix=""):
    """key=value of nested dictionaries: time_grid={"steps": 20} is time_grid.steps=20."""
    words = []
    for key, value in settings.items():
        if isinstance(value, dict):
            words += _settings(value, f"{prefix}{key}.")
        else:
            words.append(f"{prefix}{key}={_yaml(prefix + key, value)}")
    return words


def _prompts(prompts, count=None):
    """The prompts as a list; one text stands for all `count`."""
    if isinstance(prompts, str):
        return [prompts] * (1 if count is None else count)
    return list(prompts)


# ---- objects with a handle


class _Opened:
    """What holds a handle: close() and `with` end it, a later use is a ValueError."""

    _handle = None
    _close_name = ""

    @property
    def _open(self):
        if self._handle is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._handle

    def close(self):
        """Frees its memory; a second call does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            getattr(_c, self._close_name)(handle)

    def __enter__(self):
        self._open
        return self

    def __exit__(self, *exception):
        self.close()

    def __del__(self):
        # At the end of the interpreter the library may be gone already.
        if _c is not None:
            self.close()


class Model(_Opened):
    """A flow model that draws images.

    model: a folder ("models/nano" comes with the package) or "org/name" of the Hugging Face cache.
    settings: those of `vggflow sample` in the section `generator`, and device and threads; sections are
    dictionaries: Model("models/nano", lora="lora.safetensors", guidance=3, time_grid={"steps": 20}).

    Raises Error where the model or a setting is refused.
    """

    _close_name = "vggflow_model_close"

    def __init__(self, model="models/nano", /, **settings):
        self._handle = _c.vggflow_model_open(*_texts(_settings({"model": model, **settings}), "a setting"))
        if self._handle is None:
            raise _error()

    @property
    def image_size(self):
        """(height, width) of its images, in pixels."""
        height, width = ctypes.c_int64(), ctypes.c_int64()
        if _c.vggflow_model_image_size(self._open, height, width) == _FAILED:
            raise _error()
        return height.value, width.value

    def sample(self, prompts, seeds=0, *, floats=False):
        """Draws an image per prompt and seed: the one that `vggflow sample seed=...` writes.

        prompts: texts; one text is drawn once per seed.
        seeds: whole numbers of at least 0; one number serves all prompts.
        Returns uint8 (N, height, width, 3), or with `floats` float32 (N, 3, height, width) in [0, 1].
        """
        handle = self._open
        if not isinstance(seeds, (int, np.integer)):
            seeds = [operator.index(seed) for seed in seeds]
        prompts = _prompts(prompts, len(seeds) if isinstance(seeds, list) else None)
        if not isinstance(seeds, list):
            seeds = [operator.index(seeds)] * len(prompts)
        if len(seeds) != len(prompts) or not prompts:
            raise ValueError(f"expected a seed per prompt, and one prompt or more, got {len(prompts)} prompts and {len(seeds)} seeds")
        if not all(0 <= seed < 2**63 for seed in seeds):
            raise ValueError(f"expected seeds from 0 to 2**63 - 1, got {min(seeds)} to {max(seeds)}")
        height, width = self.image_size
        out = np.empty((len(prompts), 3, height, width), np.float32) if floats else np.empty((len(prompts), height, width, 3), np.uint8)
        texts, _ = _texts(prompts, "a prompt")
        if _c.vggflow_model_sample(handle, texts, (ctypes.c_int64 * len(seeds))(*seeds), _images(out)) == _FAILED:
            raise _error()
        return out


class Reward(_Opened):
    """A reward, or a weighted sum: Reward("emoji-clip + 0.05*colorfulness").

    settings: reward_model, reward_weights=["name=path"] and the like (docs/rewards.md), device, threads.

    Raises Error where the reward or a setting is refused.
    """

    _close_name = "vggflow_scorer_close"

    def __init__(self, reward="emoji-clip", /, **settings):
        self._handle = _c.vggflow_scorer_open(_text(reward, "a reward"), *_texts(_settings(settings), "a setting"))
        if self._handle is None:
            raise _error()

    def score(self, images, prompts):
        """Scores (N,) as float64, greater is better; NaN where a judge declines.

        images: uint8 (N, height, width, 3), or floats (N, 3, height, width) in [0, 1].
        prompts: a text per image; one text serves all.
        """
        handle, images = self._open, _checked(images)
        texts, count = _texts(_prompts(prompts, len(images)), "a prompt")
        if count != len(images):
            raise ValueError(f"expected a prompt per image, got {count} prompts and {len(images)} images")
        scores = np.empty(count, np.float64)
        places = scores.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        if _c.vggflow_scorer_score(handle, _images(images), texts, places) == _FAILED:
            raise _error()
        return scores


def _checked(images):
    """The images as the library takes them."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        fits, shape = images.ndim == 4 and images.shape[3] == 3, "(N, height, width, 3)"
    elif np.issubdtype(images.dtype, np.floating):
        fits, shape = images.ndim == 4 and images.shape[1] == 3, "(N, 3, height, width)"
        images = images.astype(np.float32, copy=False)
    else:
        raise TypeError(f"expected images as uint8 or floats, got {images.dtype}")
    if not fits or 0 in images.shape:
        raise ValueError(f"expected {images.dtype} images of shape {shape}, got {images.shape}; of one image pass image[None]")
    return np.ascontiguousarray(images)


def _images(array):
    """An array, which must outlive the call, as the library sees it."""
    floats = array.dtype == np.float32
    height, width = array.shape[2:] if floats else array.shape[1:3]
    return _Images(len(array), height, width, _FLOAT_NCHW if floats else _UINT8_NHWC, array.ctypes.data)


# ---- alignment


@dataclasses.dataclass(frozen=True)
class Update:
    """What an update found. `line` is its line of metrics.jsonl, `evaluation` that of the last evaluation, None before the first."""

    update: int
    updates: int
    reward_mean: float
    reward_sd: float
    grad_norm: float
    lr: float
    seconds: float
    images_per_second: float
    line: dict
    evaluation: dict | None


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder, and how it ended: "finished", "stopped" by the callback, or "finished before" (resume=True)."""

    folder: pathlib.Path
    end: str

    @property
    def summary(self):
        """summary.json of a run that finished."""
        return json.loads((self.folder / "summary.json").read_text())

    @property
    def lora(self):
        """The averaged adapters of a run that finished, for Model(lora=...)."""
        return self.folder / "lora_ema.safetensors"


def _update_of(c):
    figures = {name: getattr(c, name) for name, _ in _Update._fields_[:-2]}
    return Update(**figures, line=json.loads(c.line), evaluation=json.loads(c.evaluation) if c.evaluation else None)


def _takes_interrupts():
    """Whether Ctrl-C would raise KeyboardInterrupt here: the run may take it then."""
    return threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def align(run, /, *, config=None, trust=(), on_update=None, **settings):
    """Runs `vggflow align`, and returns its Run.

    run: the run's folder; a new one, but for resume=True.
    config: a file of settings, "configs/nano.yaml".
    trust: what rewards of that file may be: "plugins", "torchscript", "http".
    on_update: called after every update with an Update; a true result ends the run after it, saved. An exception does so too,
    and is raised once the run has ended.
    settings: those of `vggflow align`; sections are dictionaries: align("runs/a", updates=10, eval={"prompts": 8}).

    Ctrl-C ends the run after the update under way, saved, and raises KeyboardInterrupt; a second one drops that update; a third
    ends the process. resume=True goes on. Raises Error where a setting is refused or the run fails.
    """
    raised = []

    def told(update, _):
        try:
            return 1 if on_update(_update_of(update.contents)) else 0
        except BaseException as error:
            raised.append(error)
            return 1

    words = [] if config is None else ["--config", config]
    words += ["--trust", ",".join(trust)] if trust else []
    words += _settings({"run": run, **settings})
    callback = _OnUpdate(told) if on_update else _OnUpdate()
    _c.vggflow_take_interrupts(_takes_interrupts())
    end = _c.vggflow_align(*_texts(words, "a setting"), callback, None)
    if raised:
        raise raised[0]
    if end == _FAILED:
        raise _error()
    if end == _INTERRUPTED:
        raise KeyboardInterrupt
    return Run(pathlib.Path(run), {_STOPPED: "stopped", _FINISHED_BEFORE: "finished before"}.get(end, "finished"))


def show_log(shown=True):
    """Whether the library writes log lines and progress to standard error; at first it does not."""
    _c.vggflow_show_log(bool(shown))


def version():
    """The library's release and commit."""
    return _c.vggflow_version().decode()
