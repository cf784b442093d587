"""Input of a teacher's U-Net from the VAE's posterior: the mean, or a sample that is the image's own."""

import numpy as np
import pytest
import torch

from dpiqa.errors import CheckpointError
from dpiqa.models.cards import find_card
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.models.scoring_network import content_seeds
from dpiqa.models.vae import encode, noise_of
from dpiqa.types import Precision

pytestmark = pytest.mark.heavy

#: Largest relative difference of a score between batches. In bfloat16 a number has 8 significant bits (2^-9 = 0.002
#: when rounded once); sums in another order round elsewhere, several layers deep.
TOLERANCES = {Precision.FLOAT32: 1e-3, Precision.BFLOAT16: 5e-2}


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def teacher(models_dir):
    """Load the small teacher with another posterior or view size on its card."""

    def load(precision=Precision.FLOAT32, **changes):
        path = models_dir / "small-teacher.json"
        card = find_card("small-teacher", models_dir)
        path.write_text(card.model_copy(update={"architecture": card.architecture | changes}).model_dump_json())
        return load_scorer(ModelChoice(model="small-teacher", precision=precision), models_dir=models_dir, device="cpu")

    return load


@pytest.mark.parametrize("posterior", ["mean", "sample"])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_same_bytes_same_score_in_any_batch(teacher, pixels, posterior, precision):
    scorer = teacher(precision, posterior=posterior)
    together = scorer.score(pixels)
    np.testing.assert_array_equal(scorer.score(pixels), together)
    np.testing.assert_allclose(teacher(precision).score(pixels), together, rtol=1e-6)
    for batch in ([0], [4, 2, 0], [1, 1, 1, 1]):
        np.testing.assert_allclose(scorer.score(pixels[batch]), together[batch], rtol=TOLERANCES[precision])
    assert np.ptp(together) > 0


def test_a_sample_is_another_scorer_with_other_scores(teacher, pixels):
    unsaid, mean, sample = teacher(), teacher(posterior="mean"), teacher(posterior="sample")
    assert unsaid.card.scorer_id == mean.card.scorer_id
    assert sample.card.scorer_id == f"{mean.card.scorer_id}+sampled"
    np.testing.assert_array_equal(unsaid.score(pixels), mean.score(pixels))
    assert np.all(sample.score(pixels) != mean.score(pixels))


def test_views_of_a_sampled_picture_are_scored_with_its_own_seed(teacher, pixels):
    whole = teacher(posterior="sample").card.scorer_id
    scorer = teacher(posterior="sample", view_size=32)
    assert scorer.card.scorer_id == f"{whole}+views32"
    together = scorer.score(pixels)
    np.testing.assert_allclose(scorer.score(pixels[3:4]), together[3:4], rtol=1e-3)
    assert np.all(together != teacher(posterior="mean", view_size=32).score(pixels))


def test_an_unknown_posterior_is_refused_with_the_card_named(teacher):
    with pytest.raises(CheckpointError, match="small-teacher"):
        teacher(posterior="mode")


def test_the_seed_is_the_content(pixels):
    changed = pixels.copy()
    changed[2, 63, 63, 2] ^= 1
    seeds, others = content_seeds(pixels), content_seeds(changed)
    assert [a == b for a, b in zip(seeds, others, strict=True)] == [True, True, False, True, True]
    assert content_seeds(pixels[::-1]) == seeds[::-1]
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_noise_is_standard_normal_and_the_same_in_every_batch_and_precision():
    rough = noise_of([7, 8], (4, 32, 32), torch.zeros(1, dtype=torch.bfloat16))
    exact = noise_of([8], (4, 32, 32), torch.zeros(1))
    assert torch.equal(rough[1:], exact.bfloat16())
    assert float(exact.mean()) == pytest.approx(0, abs=0.1)
    assert float(exact.std()) == pytest.approx(1, abs=0.1)


@torch.inference_mode()
def test_latents_are_those_of_diffusers_own_posterior(tiny_teacher):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    posterior = tiny_teacher.vae.encode(images).latent_dist
    noise = noise_of([1, 2], tuple(posterior.mean.shape[1:]), images)
    torch.testing.assert_close(encode(tiny_teacher.vae, images), posterior.mean * 0.18215)
    sample = (posterior.mean + noise * posterior.logvar.exp().sqrt()) * 0.18215
    torch.testing.assert_close(encode(tiny_teacher.vae, images, noise), sample)


def test_a_teacher_that_samples_asks_for_seeds(tiny_teacher):
    tiny_teacher.config = tiny_teacher.config.model_copy(update={"posterior": "sample"})
    with pytest.raises(ValueError, match="seed for each of 2 images"):
        tiny_teacher(torch.rand(2, 3, 64, 64), seeds=[1])
