"""CogVideoX's VAE through our interface: equal to diffusers for whole clips, and the same in pieces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

from egotwin_sim.errors import UserError
from egotwin_sim.models import CogVideoXVAE
from egotwin_sim.models.video_vae import join_chunks

SCALE = 0.7
TOLERANCE = {"atol": 1e-4, "rtol": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    saved = AutoencoderKLCogVideoX(
        block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2, scaling_factor=SCALE
    )
    path = tmp_path_factory.mktemp("cogvideox") / "vae"
    saved.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def theirs(folder: Path) -> AutoencoderKLCogVideoX:
    return AutoencoderKLCogVideoX.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return torch.rand(2, 3, 17, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


def in_pieces(vae: CogVideoXVAE, latents: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    cache, pieces = None, []
    for piece in latents.split(sizes, dim=2):
        chunk, cache = vae.decode(piece, cache)
        pieces.append(chunk)
    return torch.cat(pieces, dim=1)


@torch.no_grad()
def test_whole_clips_and_pieces_equal_diffusers(
    folder: Path, theirs: AutoencoderKLCogVideoX, video: torch.Tensor
) -> None:
    vae = CogVideoXVAE.from_pretrained(folder).eval()
    latents = theirs.encode(video).latent_dist.mode() * SCALE
    assert latents.shape == (2, 4, 5, 2, 3)
    torch.testing.assert_close(vae.encode(video), latents, **TOLERANCE)
    first, cache = vae.encode_piece(video[:, :, :9])
    second, _ = vae.encode_piece(video[:, :, 9:], cache)
    torch.testing.assert_close(torch.cat([first, second], dim=2), latents, **TOLERANCE)

    expected = theirs.decode(latents / SCALE).sample
    assert expected.std() > 0.01, "a decoder that says nothing proves nothing"
    decoded, _ = vae.decode(latents)
    assert decoded.shape == (2, 5, 3, 4, 16, 24)
    torch.testing.assert_close(join_chunks(decoded), expected, **TOLERANCE)
    torch.testing.assert_close(in_pieces(vae, latents, [3, 2]), decoded, **TOLERANCE)


@torch.no_grad()
def test_streams_latent_by_latent(folder: Path, theirs: AutoencoderKLCogVideoX, video: torch.Tensor) -> None:
    vae = CogVideoXVAE.from_pretrained(folder, latents_per_group=1).eval()
    latents = vae.encode(video)
    first, cache = vae.encode_piece(video[:, :, :1])
    pieces = [first]
    for frames in video[:, :, 1:].split(4, dim=2):
        latent, cache = vae.encode_piece(frames, cache)
        pieces.append(latent)
    torch.testing.assert_close(torch.cat(pieces, dim=2), latents, **TOLERANCE)

    decoded, _ = vae.decode(latents)
    torch.testing.assert_close(in_pieces(vae, latents, [1] * 5), decoded, **TOLERANCE)
    torch.testing.assert_close(in_pieces(vae, latents, [2, 3]), decoded, **TOLERANCE)
    picture = theirs.decode(latents[:, :, :1] / SCALE).sample
    torch.testing.assert_close(decoded[:, 0, :, 3], picture[:, :, 0], **TOLERANCE)


@torch.no_grad()
def test_groups_matter_to_the_norms_alone(folder: Path, video: torch.Tensor) -> None:
    theirs = AutoencoderKLCogVideoX.from_pretrained(folder).eval()
    for module in list(theirs.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.GroupNorm):
                setattr(module, name, torch.nn.Identity())
    latents = theirs.encode(video).latent_dist.mode()
    expected = theirs.decode(latents).sample
    alone = CogVideoXVAE(theirs, latents_per_group=1)
    torch.testing.assert_close(alone.encode(video), latents * SCALE, **TOLERANCE)
    decoded = in_pieces(alone, latents * SCALE, [1] * 5)
    torch.testing.assert_close(join_chunks(decoded), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_rows_of_a_cache_continue_alone(folder: Path, video: torch.Tensor) -> None:
    vae = CogVideoXVAE.from_pretrained(folder, latents_per_group=1).eval()
    latents = vae.encode(video[:, :, :9])
    _, cache = vae.decode(latents[:, :, :2])
    both, _ = vae.decode(latents[:, :, 2:], cache)
    second, _ = vae.decode(latents[1:, :, 2:], cache.index(torch.tensor([1])))
    torch.testing.assert_close(second, both[1:], **TOLERANCE)


@torch.no_grad()
def test_cache_is_small(folder: Path, video: torch.Tensor) -> None:
    vae = CogVideoXVAE.from_pretrained(folder).eval()
    _, cache = vae.decode(vae.encode(video))

    def frames(tensors: dict) -> set[int]:
        return {n for v in tensors.values() for n in (frames(v) if isinstance(v, dict) else {v.shape[2]})}

    assert frames(cache.tensors) == {2}, "a causal kernel of 3 frames needs the last 2"


@torch.no_grad()
def test_a_chunk_alone_has_one_latent(folder: Path, video: torch.Tensor) -> None:
    vae = CogVideoXVAE.from_pretrained(folder.parent).eval()  # a pipeline's folder
    assert vae.encode_chunks(video[:, :, :4]).shape == (2, 4, 2, 3)


@pytest.mark.parametrize("shape", [(1, 3, 4, 16, 16), (1, 3, 5, 12, 16), (1, 3, 0, 16, 16)])
def test_refuses_other_lengths_and_sizes(folder: Path, shape: tuple[int, ...]) -> None:
    vae = CogVideoXVAE.from_pretrained(folder)
    with pytest.raises(ValueError, match="expected 1\\+4n frames"):
        vae.encode(torch.zeros(shape))


def test_refuses_other_checkpoints(folder: Path, theirs: AutoencoderKLCogVideoX, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="latents_per_group"):
        CogVideoXVAE(theirs, latents_per_group=3)
    with pytest.raises(UserError, match=r"config\.json"):
        CogVideoXVAE.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(UserError, match="AutoencoderKL"):
        CogVideoXVAE.from_pretrained(tmp_path)
