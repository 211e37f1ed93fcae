"""Diffusers: images by chance and by prompts beside the pipelines' own, options, pickles and code."""

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers

from formats.compared import Arrays, check_answers
from formats.torch.folders import SIZES, TEXTS, check_batches, check_damaged, inspect, load, tokenizer
from samovar.errors import TargetError, UnsafeFormatError
from serving import Serve

FORMAT = "diffusers"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
SEEDS = np.array([7, 8, 9, 7])
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]


def by_chance(folder: Path) -> Any:
    """A folder that needs no prompt."""
    torch.manual_seed(5)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    pipeline = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(num_train_timesteps=20))
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def by_prompt(folder: Path) -> Any:
    """A folder that draws what a prompt says."""
    torch.manual_seed(6)
    words = tokenizer()
    text = {key: SIZES[key] for key in SIZES if key != "max_position_embeddings"}
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), max_position_embeddings=64, projection_dim=16, eos_token_id=3, **text
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=8)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=transformers.CLIPTextModel(config),
        tokenizer=words,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pixels(pipeline: Any, seed: int, **settings: Any) -> np.ndarray:
    """One image alone, as Pillow would have it."""
    found = pipeline(**settings, generator=torch.Generator("cpu").manual_seed(seed), output_type="pil").images[0]
    return np.asarray(found)


def same_images(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal but for rounding, which differs with the size of a batch."""
    assert found.dtype == np.uint8
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


def test_images_by_chance(serve: Serve, tmp_path: Path) -> None:
    pipeline = by_chance(tmp_path / "noise")

    def expected(some: Arrays) -> Arrays:
        return {"image": np.stack([pixels(pipeline, int(seed), num_inference_steps=2) for seed in some["seed"]])}

    # A value that is rounded may be the neighbour in a larger batch: at most one of 255 in relation to 100.
    served = check_answers(
        serve, tmp_path / "noise", {"seed": SEEDS}, expected, options="runtime_options = { steps = 2 }", tolerance=1.0
    )
    same_images(served.http.infer("noise", {"seed": SEEDS}).arrays()["image"], expected({"seed": SEEDS})["image"])


def test_images_of_prompts(tmp_path: Path) -> None:
    pipeline = by_prompt(tmp_path / "drawn")
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "height": 16, "width": 8}
    model = load(FORMAT, tmp_path / "drawn", steps=2, guidance=3.0, height=16, width=8)
    described = inspect(FORMAT, tmp_path / "drawn", height=16, width=8)
    assert [tensor["name"] for tensor in described["inputs"]] == ["prompt", "negative_prompt", "seed"]
    assert described["outputs"][0]["dims"] == [16, 8, -1]
    nothing = np.array([b"", b"tea", b"", b"cold"], object)
    for count in (1, 3, 4):
        found = model.predict([TEXTS[:count], nothing[:count], SEEDS[:count]])[0]
        for image, prompt, negative, seed in zip(found, TEXTS, nothing, SEEDS, strict=False):
            wanted = pixels(pipeline, int(seed), prompt=prompt.decode(), negative_prompt=negative.decode(), **settings)
            same_images(image, wanted)


def test_pickled_weights_are_read_only_where_they_are_trusted(tmp_path: Path) -> None:
    pipeline = by_chance(tmp_path / "noise")
    (tmp_path / "noise" / WEIGHTS).unlink()
    torch.save(pipeline.unet.state_dict(), tmp_path / "noise" / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UnsafeFormatError, match=r"unsafe_format: .*diffusion_pytorch_model\.bin"):
        inspect(FORMAT, tmp_path / "noise")
    loaded = load(FORMAT, tmp_path / "noise", trust=True, steps=2)
    check_batches(
        loaded,
        {"seed": SEEDS},
        lambda some: {"image": np.stack([pixels(pipeline, int(seed), num_inference_steps=2) for seed in some["seed"]])},
        tolerance=1.0,
    )


def test_what_needs_more_than_a_prompt_or_code_is_refused(tmp_path: Path) -> None:
    by_chance(tmp_path / "noise")
    index = tmp_path / "noise" / "model_index.json"
    content = json.loads(index.read_text())
    for change, words in (
        ({"_class_name": "StableDiffusionImg2ImgPipeline"}, "more than a prompt: image, strength"),
        ({"_class_name": "TeaPipeline"}, "TeaPipeline, which diffusers"),
        ({"_class_name": ["tea", "TeaPipeline"]}, "code of its own for the pipeline"),
        ({"unet": ["tea", "TeaModel"]}, "code of its own for unet"),
    ):
        index.write_text(json.dumps({**content, **change}))
        with pytest.raises(TargetError, match=words):
            inspect(FORMAT, tmp_path / "noise")


def test_damaged_folders_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    by_chance(tmp_path / "noise0")
    check_damaged(serve, tmp_path / "noise0", WEIGHTS, "model_index.json")
