"""The video VAE is causal, streams as it decodes a whole clip, and keeps its statistics."""

from __future__ import annotations

import pytest
import torch

from egotwin_sim.models.video_vae import VideoVAE, cosine_basis, join_chunks, split_chunks


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    torch.manual_seed(0)
    vae = VideoVAE(latent_channels=4, encoder_channels=(16, 24), decoder_channels=(24, 16))
    for parameter in vae.parameters():  # blocks start as identities; a test needs them to do something
        torch.nn.init.normal_(parameter, std=0.1)
    return vae.eval()


@pytest.fixture
def video() -> torch.Tensor:
    return torch.rand(2, 3, 13, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_shapes(vae: VideoVAE, video: torch.Tensor) -> None:
    latents = vae.encode(video)
    assert latents.shape == (2, 4, 4, 4, 4)
    decoded = join_chunks(vae.decode(latents)[0])
    assert decoded.shape == (2, 3, 13, 32, 32)


def test_chunks_round_trip(video: torch.Tensor) -> None:
    chunks = split_chunks(video)
    assert chunks.shape == (2, 4, 3, 4, 32, 32)
    assert torch.equal(chunks[:, 0, :, 0], video[:, :, 0])
    assert torch.equal(join_chunks(chunks), video)


@torch.no_grad()
def test_streams_as_the_whole_clip(vae: VideoVAE, video: torch.Tensor) -> None:
    whole = vae.encode(video)
    pieces = torch.stack([vae.encode_chunks(chunk) for chunk in split_chunks(video).unbind(1)], dim=2)
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)
    decoded, _ = vae.decode(whole)
    cache, streamed = None, []
    for k in range(whole.shape[2]):
        chunk, cache = vae.decode(whole[:, :, k : k + 1], cache)
        streamed.append(chunk)
    torch.testing.assert_close(torch.cat(streamed, dim=1), decoded, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_causal_and_remembers(vae: VideoVAE, video: torch.Tensor) -> None:
    latents = vae.encode(video)
    changed = latents.clone()
    changed[:, :, 2] += 1
    before, after = vae.decode(latents)[0], vae.decode(changed)[0]
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 3], after[:, 3]), "the decoder should see the latent before"


@torch.no_grad()
def test_statistics_normalise(video: torch.Tensor) -> None:
    torch.manual_seed(0)
    plain = VideoVAE(latent_channels=4, encoder_channels=(16, 24), decoder_channels=(24, 16)).eval()
    raw = plain.encode(video)
    plain.register_to_config(latents_mean=[1.0] * 4, latents_std=[2.0] * 4)
    torch.testing.assert_close(plain.encode(video), (raw - 1) / 2)
    torch.testing.assert_close(plain.denormalise(plain.normalise(raw[:, :, 0])), raw[:, :, 0])


@pytest.mark.parametrize("shape", [(1, 3, 4, 32, 32), (1, 3, 5, 30, 32)])
def test_refuses_other_lengths_and_sizes(vae: VideoVAE, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected 1\\+4n frames"):
        vae.encode(torch.zeros(shape))


def test_starts_as_a_low_pass_filter() -> None:
    """Before any training the latents hold the lowest cosine frequencies: a smooth picture survives."""
    basis = cosine_basis(12).flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(12), atol=1e-5, rtol=0)
    ramp = torch.linspace(-1, 1, 32)
    picture = (ramp[:, None] + ramp[None, :]).div(2).expand(1, 3, 5, 32, 32)
    vae = VideoVAE().eval()
    with torch.no_grad():
        decoded = join_chunks(vae.decode(vae.encode(picture))[0])
    assert (decoded - picture).abs().mean() < 0.02
