"""The model behind an environment: its sizes at once, its networks when they are first used, shared in a process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from egotwin_sim.errors import UserError
from egotwin_sim.motion import Skeleton
from egotwin_sim.pipelines.weights import CONFIG_NAME, find_weights, read_config, read_json

if TYPE_CHECKING:
    from egotwin_sim.models.motion_vae import MotionVAE
    from egotwin_sim.models.text_encoder import TextEncoder
    from egotwin_sim.pipelines.stream import StreamPipeline

# Networks of the environments that are alive. They hold no state of a roll-out, so environments may share them.
_loaded: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()


class Model:
    """Lazily loaded weights.

    Args:
        model: name of shipped weights ("nano"), a folder of weights, or a loaded `StreamPipeline`.
        device: where the networks go; a loaded pipeline stays where it is.

    Attributes:
        config: the stream's configuration.
        motion_dim: D, width of a head-centric state.
        token_dim: C, channels of a motion token.
        text_dim: E, width of a pooled text.

    Raises:
        UserError: no such weights, or a damaged folder.
    """

    def __init__(self, model: str | Path | StreamPipeline = "nano", device: str = "cpu") -> None:
        self._folder: Path | None = None
        self._device = device
        self._pipeline: StreamPipeline | None = None
        self._motion_vae: MotionVAE | None = None
        self._text_encoder: TextEncoder | None = None
        if isinstance(model, (str, Path)):
            self._folder = find_weights(model).resolve()
            # Weights that are saved again in the same place are not mistaken for those in memory.
            self._stamp = (self._folder / CONFIG_NAME).stat().st_mtime_ns
            self.config = read_config(self._folder)
            self.motion_dim = self._size("motion_vae", "feature_dim")
            self.token_dim = self._size("motion_vae", "latent_channels")
            self.text_dim = self._size("transformer", "text_embed_dim")
        else:
            self._pipeline = model
            self.config = model.config
            self.motion_dim, self.token_dim, self.text_dim = model.motion_dim, model.token_dim, model.text_encoder.dim
        self.skeleton = Skeleton.default(self.config.stature)

    def _size(self, network: str, name: str) -> int:
        assert self._folder is not None
        path = self._folder / network / "config.json"
        value = read_json(path).get(name)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{path} has no {name}; give a complete folder of weights")
        return value

    @property
    def motion_frames(self) -> int:
        """Motion frames of one step."""
        return round(4 * self.config.motion_fps / self.config.video_fps)

    @property
    def step_seconds(self) -> float:
        """Seconds of one step."""
        return 4 / self.config.video_fps

    @property
    def pipeline(self) -> StreamPipeline:
        """The whole model."""
        if self._pipeline is None:
            from egotwin_sim.pipelines.stream import StreamPipeline

            folder = self._folder or Path()
            self._pipeline = self._shared("pipeline", lambda: StreamPipeline.from_pretrained(folder, self._device))
        return self._pipeline

    @property
    def motion_vae(self) -> MotionVAE:
        """The motion VAE; loads nothing else."""
        if self._pipeline is not None:
            return self._pipeline.motion_vae
        if self._motion_vae is None:
            import torch

            from egotwin_sim.models.checkpoint import load_whole
            from egotwin_sim.models.motion_vae import MotionVAE

            folder = self._folder / "motion_vae" if self._folder else Path()
            self._motion_vae = self._shared(
                "motion_vae", lambda: load_whole(MotionVAE, folder, torch_dtype=torch.float32).to(self._device).eval()
            )
        return self._motion_vae

    @property
    def text_encoder(self) -> TextEncoder:
        """The text encoder; loads nothing else."""
        if self._pipeline is not None:
            return self._pipeline.text_encoder
        if self._text_encoder is None:
            from egotwin_sim.models.text_encoder import load_text_encoder

            self._text_encoder = self._shared("text_encoder", lambda: load_text_encoder(self.config.text_encoder))
        return self._text_encoder

    def _shared(self, part: str, load: Callable[[], Any]) -> Any:
        key = (part, self._folder, self._device, self._stamp)
        found = _loaded.get(key)
        if found is None:
            found = _loaded[key] = load()
        return found
