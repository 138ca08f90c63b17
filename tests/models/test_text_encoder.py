"""Text encoders: shapes, masks, pooling, the null text, and what they refuse."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch

from egotwin_sim.errors import UserError
from egotwin_sim.models.text_encoder import T5, MiniLM, load_text_encoder

TEXTS = ["walk to the red box", "Open the door, then look left.", "wave"]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory):
    """A tiny T5 with random weights and a word tokenizer, in the layout of a CogVideoX pipeline."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    folder = tmp_path_factory.mktemp("t5")
    words = ["<pad>", "</s>", "<unk>", *"walk to the red blue box ball open door".split()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(words), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return folder


class TestMiniLM:
    def test_shapes_mask_and_padding(self, minilm):
        text = minilm.encode(TEXTS)
        assert text.tokens.shape == (3, 32, 384)
        assert text.pooled.shape == (3, minilm.dim)
        assert text.mask.sum(1).tolist() == [7, 10, 3]  # words, points, and the two marks
        assert text.tokens[~text.mask].eq(0).all()
        assert not text.tokens.requires_grad
        torch.testing.assert_close(text.pooled.norm(dim=1), torch.ones(3))

    def test_pooled_is_the_published_models_sentence_embedding(self, minilm):
        # The model's published example: the first two texts are close, the third is not.
        close, same, other = minilm.encode(
            ["That is a happy person", "That is a very happy person", "Today is a sunny day"]
        ).pooled
        assert (close @ same).item() == pytest.approx(0.943, abs=0.005)
        assert (close @ other).item() == pytest.approx(0.257, abs=0.005)

    def test_texts_do_not_depend_on_their_batch(self, minilm):
        alone, together = minilm.encode(TEXTS[:1]), minilm.encode(TEXTS)
        torch.testing.assert_close(together.tokens[:1], alone.tokens)
        torch.testing.assert_close(together.pooled[:1], alone.pooled)

    def test_null_text(self, minilm):
        null = minilm.encode_null()
        assert null.mask.sum().item() == 2
        assert null.tokens.isfinite().all()
        assert (null.pooled @ minilm.encode(TEXTS[:1]).pooled.T).item() < 0.5

    @pytest.mark.parametrize(
        ("texts", "says"),
        [
            ([], "at least one"),
            ("walk", "a list"),
            (["walk", ""], "text 1 is empty"),
            ([" \n"], "text 0 is empty"),
            ([None], "NoneType"),
            (["walk", "walk " * 31], "text 1 has 33 tokens, the limit is 32"),
        ],
    )
    def test_refuses(self, minilm, texts, says):
        with pytest.raises(UserError, match=says):
            minilm.encode(texts)

    def test_longest_text_is_whole(self, minilm):
        assert minilm.encode(["walk " * 30]).mask.all()

    def test_other_weights_are_refused(self, tmp_path):
        (tmp_path / "model.safetensors").write_bytes(b"other")
        with pytest.raises(UserError, match="SHA-256"):
            MiniLM(tmp_path)
        with pytest.raises(UserError, match="does not exist"):
            MiniLM(tmp_path / "nowhere")

    def test_missing_wheel_is_named(self, monkeypatch):
        monkeypatch.setattr("egotwin_sim.models.text_encoder.MINILM_WHEEL", "a-wheel-that-is-not-there")
        with pytest.raises(UserError, match="pip install"):
            MiniLM()


@pytest.fixture(scope="module")
def t5(t5_folder) -> T5:
    return T5(t5_folder, max_length=8)


class TestT5:
    def test_shapes_and_mask(self, t5):
        text = t5.encode(["walk to the red box", "open the door"])
        assert text.tokens.shape == (2, 8, 16)
        assert text.mask.all()  # the transformer sees the padding, as CogVideoX's does
        torch.testing.assert_close(text.pooled.norm(dim=1), torch.ones(2))
        assert t5.dim == 16

    def test_encodes_as_the_cogvideox_pipeline_does(self, t5, t5_folder):
        from diffusers import CogVideoXPipeline
        from transformers import AutoTokenizer, T5EncoderModel

        pipeline = CogVideoXPipeline.__new__(CogVideoXPipeline)
        pipeline.tokenizer = AutoTokenizer.from_pretrained(t5_folder / "tokenizer")
        pipeline.text_encoder = T5EncoderModel.from_pretrained(t5_folder / "text_encoder")
        with torch.no_grad():
            expected = pipeline._get_t5_prompt_embeds(
                ["open the door"], max_sequence_length=8, device=torch.device("cpu")
            )
        torch.testing.assert_close(t5.encode(["open the door"]).tokens, expected)

    def test_null_text_is_the_end_mark(self, t5):
        null = t5.encode_null()
        torch.testing.assert_close(null.pooled[0], torch.nn.functional.normalize(null.tokens[0, 0], dim=0))

    def test_loaded_parts_encode_the_same(self, t5, t5_folder):
        from transformers import AutoTokenizer, T5EncoderModel

        model = T5EncoderModel.from_pretrained(t5_folder / "text_encoder")
        other = T5.of(model, AutoTokenizer.from_pretrained(t5_folder / "tokenizer"), max_length=8)
        torch.testing.assert_close(other.encode(["open the door"]).tokens, t5.encode(["open the door"]).tokens)

    def test_refuses_overlong_text(self, t5):
        with pytest.raises(UserError, match="9 tokens, the limit is 8"):
            t5.encode(["walk to the red box open the door"])

    def test_refuses_missing_or_damaged_folders(self, t5_folder, tmp_path):
        with pytest.raises(UserError, match="not a folder"):
            T5(tmp_path / "nowhere")
        with pytest.raises(UserError, match=r"config\.json"):
            T5(tmp_path)
        damaged = shutil.copytree(t5_folder, tmp_path / "copy")
        weights = damaged / "text_encoder" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-50])
        with pytest.raises(UserError, match="does not load"):
            T5(damaged)

    def test_refuses_missing_weights(self, t5_folder, tmp_path):
        from safetensors.torch import load_file, save_file

        damaged = shutil.copytree(t5_folder, tmp_path / "copy")
        file = damaged / "text_encoder" / "model.safetensors"
        weights = load_file(file)
        weights.pop("encoder.block.0.layer.0.SelfAttention.q.weight")
        save_file(weights, file, metadata={"format": "pt"})
        with pytest.raises(UserError, match="lacks weights"):
            T5(damaged)


def test_load_by_name_or_folder(t5_folder):
    assert isinstance(load_text_encoder("minilm", max_length=16), MiniLM)
    assert isinstance(load_text_encoder(t5_folder, max_length=8), T5)
    assert load_text_encoder({"kind": "minilm", "max_length": 16}).max_length == 16
    assert load_text_encoder({"kind": "t5", "folder": t5_folder}).max_length == 226
    for choice, says in (
        ({"kind": "bert"}, "minilm or t5"),
        ({"kind": "minilm", "size": 3}, "size"),
        ({"kind": "t5"}, "folder"),
    ):
        with pytest.raises(UserError, match=says):
            load_text_encoder(choice)


def test_importing_the_package_is_cheap():
    heavy = "{'torch', 'transformers', 'diffusers'}"
    code = f"import sys, egotwin_sim.models as m; dir(m); assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_refused():
    import egotwin_sim.models

    with pytest.raises(AttributeError, match="NoSuchModel"):
        egotwin_sim.models.NoSuchModel  # noqa: B018
