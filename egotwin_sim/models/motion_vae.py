"""The motion VAE: motion features to motion tokens and back, causal both ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from egotwin_sim.errors import UserError
from egotwin_sim.models.checkpoint import WholeModelMixin
from egotwin_sim.models.motion_geometry import (
    canonical_frame,
    consistent_state,
    head_pose,
    invert,
    joint_positions,
    move_features,
)
from egotwin_sim.models.root_geometry import root_body
from egotwin_sim.motion import Skeleton
from egotwin_sim.motion.representation import find_representation

FRAMES_PER_TOKEN = 4
_LOGVAR_RANGE = (-12.0, 4.0)


class CausalConv(nn.Module):
    """Convolution over time of (B, T, C): output i sees the inputs up to `stride * i`, and zeros before the first."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.linear = nn.Linear(kernel * in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, 1 + (T - 1) // stride, C')."""
        frames = x.shape[1]
        x = F.pad(x, (0, 0, self.kernel - 1, 0))
        return self.linear(torch.cat([x[:, i : i + frames : self.stride] for i in range(self.kernel)], dim=-1))


class ResBlock(nn.Module):
    """Norm, SiLU, causal convolution, twice; the norm is over one time step's channels, as one over time would leak."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.conv1 = nn.LayerNorm(channels), CausalConv(channels, channels)
        self.norm2, self.conv2 = nn.LayerNorm(channels), CausalConv(channels, channels)
        nn.init.zeros_(self.conv2.linear.weight)
        nn.init.zeros_(self.conv2.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class Upsample(nn.Module):
    """Doubles the time steps after the first: step k becomes 2k - 1 and 2k, step 0 stays."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + n, C) -> (B, 1 + 2n, C)."""
        return self.linear(x).unflatten(-1, (2, -1)).flatten(1, 2)[:, 1:]


def _mlp(in_channels: int, width: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_channels, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
        nn.SiLU(),
        nn.Linear(width, out_channels),
    )


@dataclass(frozen=True)
class Tracked:
    """What `MotionVAE.track` gives.

    Attributes:
        tokens: (N, 1 + 2K, C): the token of the first state, then those of the K chunks.
        chunks: (N, K, 9, D): the states that decoding them goes through, each chunk in the canonical frame of its own
            first state, the last state of the chunk before. The numbers are those of 8 frames a chunk.
    """

    tokens: Tensor
    chunks: Tensor


def seen_from(state: Tensor, chunk: Tensor, gap: Tensor) -> Tensor:
    """A true chunk (B, T, D) as it looks from a decoded `state` (B, D), which replaces its first frame.

    Args:
        state: in its own canonical frame.
        chunk: in its own canonical frame.
        gap: (B, 4, 4), the true canonical frame seen from the decoded one.
    """
    return torch.cat([state[:, None], move_features(chunk[:, 1:], gap[:, None])], dim=1)


def next_gap(frames: Tensor, chunk: Tensor, gap: Tensor) -> Tensor:
    """The gap (B, 4, 4) at the end of a chunk, see `seen_from`.

    Args:
        frames: (B, 4n, D), decoded.
        chunk: (B, T, D), the true one.
        gap: at the chunk's start.
    """
    end, true_end = (canonical_frame(head_pose(features[:, -1])) for features in (frames, chunk))
    return invert(end) @ gap @ true_end


class MotionVAE(WholeModelMixin, ModelMixin, ConfigMixin):
    """Causal variational autoencoder of body motion, 4 frames a token (paper section "motion VAE", equation 1).

    1 + 4n frames become 1 + n tokens: token 0 is a function of frame 0 alone, token k of the frames up to 4k, and the
    frames 4k-3..4k are decoded from the tokens up to k. Frame 0 is decoded by a network of its own; the later frames
    are decoded as changes to frame 0, which may be given (a stream knows the state that a chunk starts from) and is
    otherwise the decoded one.

    All public methods but `encode` and `decode` take and give physical units and unit-scale tokens: the statistics for
    both are in the config (`set_feature_statistics`, `set_token_statistics`).

    Args:
        feature_dim: D; for the default skeleton 282 (head-centric) or 263 (root-centric).
        latent_channels: C, numbers per token.
        width: channels of the networks.
        blocks: residual blocks at each of the three rates, in the encoder and in the decoder.
        canonical: "chunk" (1 + `frames_per_chunk` frames, in the canonical frame of the chunk's first state) or "clip"
            (1 + 4n frames, in that of the clip's; the paper).
        frames_per_chunk: motion frames of one chunk, for "chunk".
        representation: "head" (the paper's head-centric features) or "root" (HumanML3D's, its ablation), which has the
            "clip" form only.
        feature_mean: D means.
        feature_std: one spread for each of the 7 parts of a feature vector, so that the units within a part stay equal.
        change_std: for each part, the spread of its change since a sample's first frame, in normalised units.
        token_mean: two lists of C means: of token 0, and of the others.
        token_std: likewise.

    Raises:
        UserError: an unknown canonical form or representation, or a width that belongs to no skeleton.
    """

    @register_to_config
    def __init__(
        self,
        feature_dim: int = 282,
        latent_channels: int = 32,
        width: int = 192,
        blocks: int = 2,
        canonical: str = "chunk",
        frames_per_chunk: int = 8,
        representation: str = "head",
        feature_mean: Sequence[float] | None = None,
        feature_std: Sequence[float] | None = None,
        change_std: Sequence[float] | None = None,
        token_mean: Sequence[Sequence[float]] | None = None,
        token_std: Sequence[Sequence[float]] | None = None,
    ):
        super().__init__()
        if canonical not in ("chunk", "clip"):
            raise UserError(f"canonical is {canonical!r}; expected chunk or clip")
        if representation == "root" and canonical != "clip":
            raise UserError('representation "root" needs canonical "clip": its states do not know where the head is')
        self.representation = find_representation(representation)
        self.layout = self.representation.of_width(feature_dim)
        self._on_device: dict[str, Tensor] = {}
        self.encoder = nn.Sequential(
            nn.Linear(2 * feature_dim, width),
            *(ResBlock(width) for _ in range(blocks)),
            CausalConv(width, width, stride=2),
            *(ResBlock(width) for _ in range(blocks)),
            CausalConv(width, width, stride=2),
            *(ResBlock(width) for _ in range(blocks)),
            nn.LayerNorm(width),
            nn.Linear(width, 2 * latent_channels),
        )
        self.first_decoder = _mlp(latent_channels, width, feature_dim)
        self.state_embedding = _mlp(feature_dim, width, width)
        self.token_embedding = nn.Linear(latent_channels, width)
        self.decoder = nn.Sequential(
            *(ResBlock(width) for _ in range(blocks)),
            Upsample(width),
            *(ResBlock(width) for _ in range(blocks)),
            Upsample(width),
            *(ResBlock(width) for _ in range(blocks)),
            nn.LayerNorm(width),
            nn.Linear(width, feature_dim),
        )

    def encode(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised features (B, 1 + 4n, D) to mean and log variance (B, 1 + n, C) of the raw latents."""
        # Within a chunk a body changes little against how bodies differ: the change is given in its own scale.
        change = (features - features[:, :1]) / self._per_feature("change_std", features)
        mean, logvar = self.encoder(torch.cat([features, change], dim=-1)).chunk(2, dim=-1)
        return mean, logvar.clamp(*_LOGVAR_RANGE)

    def decode(self, latents: Tensor, state: Tensor | None = None) -> Tensor:
        """Raw latents to normalised features.

        Args:
            latents: (B, 1 + n, C).
            state: (B, D), frame 0 in normalised features; without it the later frames start from the decoded frame 0.

        Returns:
            (B, 1 + 4n, D); frame 0 is always the decoded one.
        """
        first = self.first_decoder(latents[:, 0])
        if latents.shape[1] == 1:
            return first[:, None]
        later = self.decode_later(latents[:, 1:], first if state is None else state)
        return torch.cat([first[:, None], later], dim=1)

    def decode_later(self, latents: Tensor, state: Tensor) -> Tensor:
        """Raw latents 1..n (B, n, C) and normalised frame 0 (B, D) to the normalised frames 1..4n."""
        start = self.state_embedding(state)[:, None]
        hidden = torch.cat([start, start + self.token_embedding(latents)], dim=1)
        return state[:, None] + self._per_feature("change_std", state) * self.decoder(hidden)[:, 1:]

    def tokenise(self, features: Tensor) -> Tensor:
        """Motion tokens of features.

        Args:
            features: (B, 1 + 4n, D), physical units, in the form `config.canonical`; n = 2 for "chunk" with 8 frames. A
                single frame (n = 0) gives the token of a state.

        Returns:
            (B, 1 + n, C), zero mean and unit variance over the training data.

        Raises:
            UserError: a wrong shape, or a number that is not finite.
        """
        self._check_frames(features)
        mean, std = self._token_statistics(features)
        latents, _ = self.encode(self.normalise(features))
        return (latents - mean[: latents.shape[1]]) / std[: latents.shape[1]]

    def detokenise(self, tokens: Tensor, state: Tensor | None = None) -> Tensor:
        """Features of motion tokens.

        Args:
            tokens: (B, 1 + n, C), as `tokenise` gives them.
            state: (B, D), the true frame 0 in physical units, if it is known.

        Returns:
            (B, 1 + 4n, D), physical units. Frame 0 is the decoded token 0, or `state`.

        Raises:
            UserError: a wrong shape, or a number that is not finite.
        """
        self._check_tokens(tokens)
        mean, std = self._token_statistics(tokens)
        latents = tokens * std[: tokens.shape[1]] + mean[: tokens.shape[1]]
        features = self.denormalise(self.decode(latents, None if state is None else self.normalise(state)))
        return features if state is None else torch.cat([state[:, None], features[:, 1:]], dim=1)

    def decode_chunk(self, state: Tensor, tokens: Tensor) -> Tensor:
        """The frames that follow a known state; all a stream needs.

        Args:
            state: (B, D), physical units, in its own canonical frame (see `motion.recanonicalise`).
            tokens: (B, n, C), the tokens of the coming chunk; n = 2 for 8 frames.

        Returns:
            (B, 4n, D), physical units, in the canonical frame of `state`.

        Raises:
            UserError: a wrong shape, or a number that is not finite.
        """
        self._check_tokens(tokens)
        if state.shape != (len(tokens), self.config.feature_dim):
            raise UserError(f"state has shape {tuple(state.shape)}; expected {(len(tokens), self.config.feature_dim)}")
        mean, std = self._token_statistics(tokens)
        return self.denormalise(self.decode_later(tokens * std[1] + mean[1], self.normalise(state)))

    def track(
        self, chunks: Tensor, *, skeleton: Skeleton | None = None, fps: float = 16.0, corrected: bool = True
    ) -> Tracked:
        """Tokens that lead a stream along a motion, and the states that it goes through ("chunk" form only).

        A stream decodes each chunk from the state that it decoded before, so errors add up. Here each chunk's later
        frames are seen from that decoded state instead of the true one before they are encoded: its tokens take back
        the error so far.

        Args:
            chunks: (N, K, 1 + n, D), the consecutive chunks of N motions, as `motion.chunk_features` gives them,
                physical units.
            skeleton: the body; the default one without it.
            fps: motion frames per second.
            corrected: False encodes each chunk as it is, for comparison.

        Returns:
            Tokens and decoded chunks.

        Raises:
            UserError: a wrong shape, or a number that is not finite.
        """
        if self.config.canonical != "chunk" or chunks.ndim != 4:
            raise UserError(f"track takes the chunks (N, K, T, D) of the chunk form, got {tuple(chunks.shape)}")
        skeleton = skeleton or Skeleton.default()
        state = chunks[:, 0, 0]
        tokens, decoded = [self.tokenise(state[:, None])], []
        gap = torch.eye(4, dtype=chunks.dtype, device=chunks.device).expand(len(chunks), 4, 4)
        for k in range(chunks.shape[1]):
            goal = seen_from(state, chunks[:, k], gap) if corrected else chunks[:, k]
            tokens.append(self.tokenise(goal)[:, 1:])
            frames = self.decode_chunk(state, tokens[-1])
            decoded.append(torch.cat([state[:, None], frames], dim=1))
            gap = next_gap(frames, chunks[:, k], gap)
            state = consistent_state(frames[:, -2], frames[:, -1], skeleton, fps)
        return Tracked(torch.cat(tokens, dim=1), torch.stack(decoded, dim=1))

    def body(self, features: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
        """Joint positions (B, T, J, 3) and head poses (B, T, 4, 4) in the canonical frame, from features (B, T, D)."""
        if self.config.representation == "root":
            return root_body(features, skeleton)
        return joint_positions(features, skeleton), head_pose(features)

    def normalise(self, features: Tensor) -> Tensor:
        """Physical features (..., D) to zero mean and unit scale."""
        return (features - self._feature_mean(features)) / self._per_feature("feature_std", features)

    def denormalise(self, features: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return features * self._per_feature("feature_std", features) + self._feature_mean(features)

    def set_feature_statistics(self, features: Tensor) -> None:
        """Keep in the config the means and spreads of physical features (N, T, D) and of their change since frame 0."""
        mean = features.double().mean((0, 1))
        spread = (features - mean).square().mean((0, 1))
        change = (features[:, 1:] - features[:, :1]).double().square().mean((0, 1))
        parts = list(self.layout.slices.values())
        std = [spread[part].mean().sqrt().clamp_min(1e-4).item() for part in parts]
        change_std = [
            (change[part].mean().sqrt() / scale).clamp_min(1e-2).item() for part, scale in zip(parts, std, strict=True)
        ]
        self.register_to_config(feature_mean=mean.tolist(), feature_std=std, change_std=change_std)
        self._on_device.clear()

    def set_token_statistics(self, latents: Tensor) -> None:
        """Keep the means and spreads of raw latents (N, 1 + n, C) in the config.

        A channel that the data hardly uses keeps a spread of at least 5 % of the widest one: dividing by less would
        make its noise as large as the others' signal.
        """
        parts = [latents[:, 0].double(), latents[:, 1:].flatten(0, 1).double()]
        stds = [part.std(0) for part in parts]
        self.register_to_config(
            token_mean=[part.mean(0).tolist() for part in parts],
            token_std=[std.clamp_min(max(0.05 * std.max().item(), 1e-4)).tolist() for std in stds],
        )
        self._on_device.clear()

    def _feature_mean(self, like: Tensor) -> Tensor:
        return self._constant("feature_mean", like, lambda: self.config.feature_mean or [0.0] * self.config.feature_dim)

    def _per_feature(self, name: str, like: Tensor) -> Tensor:
        """One of the config's lists of a number per part, as (D,)."""

        def values() -> list[float]:
            parts = list(self.layout.slices.values())
            numbers = self.config[name] or [1.0] * len(parts)
            return [number for number, part in zip(numbers, parts, strict=True) for _ in range(part.stop - part.start)]

        return self._constant(name, like, values)

    def _token_statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread (1 + n, C) with n large enough for `like`; row 1 onwards repeats the later tokens' values."""
        channels, rows = self.config.latent_channels, max(2, like.shape[1])
        mean = self._constant("token_mean", like, lambda: self.config.token_mean or [[0.0] * channels] * 2)
        std = self._constant("token_std", like, lambda: self.config.token_std or [[1.0] * channels] * 2)
        which = torch.arange(rows, device=like.device).clamp_max(1)
        return mean[which], std[which]

    def _constant(self, name: str, like: Tensor, values: Callable[[], list]) -> Tensor:
        # Made from the config when first needed: a buffer would be saved twice, and be empty after a lazy load.
        constant = self._on_device.get(name)
        if constant is None or constant.device != like.device:
            constant = self._on_device[name] = torch.tensor(values(), device=like.device)
        return constant

    def _check_frames(self, features: Tensor) -> None:
        dim, chunk = self.config.feature_dim, self.config.frames_per_chunk
        if features.ndim != 3 or features.shape[2] != dim or (features.shape[1] - 1) % FRAMES_PER_TOKEN:
            raise UserError(f"features have shape {tuple(features.shape)}; expected (B, 1 + 4n, {dim})")
        if self.config.canonical == "chunk" and features.shape[1] not in (1, 1 + chunk):
            raise UserError(f"a chunk has 1 + {chunk} frames, got {features.shape[1]}; see motion.chunk_features")
        if not torch.isfinite(features).all():
            raise UserError("motion features hold NaN or infinity; check the motion they were made from")

    def _check_tokens(self, tokens: Tensor) -> None:
        channels = self.config.latent_channels
        if tokens.ndim != 3 or tokens.shape[2] != channels or tokens.shape[1] < 1:
            raise UserError(f"motion tokens have shape {tuple(tokens.shape)}; expected (B, n, {channels})")
        if not torch.isfinite(tokens).all():
            raise UserError("motion tokens hold NaN or infinity; give finite numbers")
