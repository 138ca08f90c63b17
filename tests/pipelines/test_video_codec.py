"""Frames to latents as training and sampling both see them."""

from __future__ import annotations

import torch

from egotwin_sim.pipelines.video_codec import VideoCodec
from tests.tiny import tiny_published_pipeline, tiny_video_vae


def video(seed: int) -> torch.Tensor:
    return torch.rand(1, 3, 9, 48, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
def test_latent_0_is_of_the_first_frame_alone():
    codec = VideoCodec(tiny_published_pipeline().video_vae)
    one, other = video(0), video(1)
    other[:, :, 0] = one[:, :, 0]
    torch.testing.assert_close(codec.encode(one)[:, :1], codec.encode(one[:, :, :1]))
    torch.testing.assert_close(codec.encode(one)[:, :1], codec.encode(other)[:, :1])
    assert not torch.allclose(codec.encode(one)[:, 1:], codec.encode(other)[:, 1:])


@torch.no_grad()
def test_shapes():
    codec = VideoCodec(tiny_published_pipeline().video_vae)
    latents = codec.encode(video(0))
    assert latents.shape == (1, 3, 4, 6, 8) and codec.decode(latents).shape == (1, 3, 9, 48, 64)


@torch.no_grad()
def test_nano_codes_every_frame_by_itself():
    vae = tiny_video_vae()
    clip = torch.rand(2, 3, 9, 64, 64) * 2 - 1
    codec = VideoCodec(vae)
    together = codec.encode(clip)
    codec.slicing = True
    torch.testing.assert_close(codec.encode(clip), together, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(codec.encode(clip[:, :, :1]), together[:, :1], atol=1e-5, rtol=1e-4)
