"""Settings: precedence, origins, and what a mistake is answered with."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_cls.config import PRESETS, RunConfig, describe_fields, resolve_config
from bert_cls.encoders.facts import EncoderFacts
from bert_cls.errors import ConfigError
from bert_cls.training.recipe import settle


def test_flags_beat_settings_beat_files(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[training]\nepochs = 4\nseed = 4\nbatch_size = 4\n")
    config, origins = resolve_config(
        preset="fast",
        file=file,
        settings=["training.seed=5", "training.batch_size=5"],
        flags={"training.batch_size": 6, "training.learning_rate": None},
    )
    training = config.training
    assert (training.epochs, training.seed, training.batch_size) == (4, 5, 6)
    assert origins["training.epochs"] == "c.toml"
    assert origins["training.seed"] == "--set"
    assert origins["training.batch_size"] == "flag"
    assert "training.learning_rate" not in origins


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_resolves(preset):
    config, _ = resolve_config(preset=preset)
    assert config.training.epochs is None, "passes depend on the rows: the recipe's"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.epoch=1"], "did you mean 'training.epochs'"),
        (["trainng.epochs=1"], "did you mean 'training.epochs'"),
        (["training.epochs=zero"], "training.epochs (from --set)"),
        (["training.epochs=-1"], "training.epochs (from --set)"),
        (["training.epochs"], "section.field=value"),
        (["text.long=middle"], "text.long (from --set)"),
    ],
)
def test_mistakes_name_the_field_and_where_it_came_from(settings, message):
    with pytest.raises(ConfigError) as error:
        resolve_config(settings=settings)
    assert message in str(error.value)


def test_a_number_in_a_table_is_named_not_the_table():
    with pytest.raises(ConfigError, match=r"finite number\. Got nan"):
        resolve_config(settings=['loss.class_weights={"a": NaN}'])


@pytest.mark.parametrize("content", ["not toml", "[training]\nepochs = ", "training = 3"])
def test_a_broken_file_is_named(tmp_path, content):
    file = tmp_path / "broken.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        resolve_config(file=file)


@pytest.mark.parametrize(
    "setting",
    [
        "training.adam_epsilon=Infinity",
        "training.learning_rate=Infinity",
        "training.weight_decay=Infinity",
        "training.max_grad_norm=NaN",
        "training.seed=99999999999999999999999",
        "training.seed=4294967296",
        "distillation.temperature=1e-38",
        'loss.class_weights={"a":Infinity}',
        'loss.options={"gamma":Infinity}',
    ],
)
def test_numbers_that_nothing_can_be_computed_with_are_refused(setting):
    with pytest.raises(ConfigError, match=setting.partition("=")[0]):
        resolve_config(settings=[setting])


@given(st.text(max_size=30))
def test_no_setting_text_ends_in_a_traceback(text):
    try:
        resolve_config(settings=[text])
    except ConfigError:
        return
    assert "=" in text


def test_what_is_saved_can_be_read_again():
    config, _ = resolve_config(settings=['loss.options={"gamma": 1.5}', "text.long=head_tail"])
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_every_field_is_described():
    keys = [key for key, _, _ in describe_fields()]
    assert len(keys) == len(set(keys))
    assert "training.learning_rate" in keys


def test_every_setting_is_shown_with_the_default_it_has():
    plain = RunConfig().model_dump(mode="json")
    for key, default, _ in describe_fields():
        section, _, field = key.partition(".")
        assert json.loads(default) == plain[section][field], key
        assert "Undefined" not in default


def facts(**changes: object) -> EncoderFacts:
    known = {
        "family": "bert",
        "width": 768,
        "layers": 12,
        "parameters": 10**8,
        "positions": 512,
        "sentence_pooling": None,
        "has_trained_pooler": True,
    }
    return EncoderFacts(**{**known, **changes})


def recipe(
    given_facts: EncoderFacts,
    rows: int,
    *,
    task: str = "multilabel",
    loss: str = "bce",
    preset: str = "balanced",
    **flags: object,
):
    config, _ = resolve_config(preset=preset, flags=flags)
    return settle(config, given_facts, task=task, loss=loss, rows=rows, preset=preset)


def test_the_recipe_follows_the_encoder():
    assert recipe(facts(), 5000).pooling == "cls_pooler"
    assert recipe(facts(has_trained_pooler=False), 5000).pooling == "cls"
    assert recipe(facts(sentence_pooling="mean"), 5000).pooling == "mean"
    narrow, wide = recipe(facts(width=384), 5000), recipe(facts(), 5000)
    assert narrow.training.learning_rate > wide.training.learning_rate
    classes = recipe(facts(width=384), 5000, task="multiclass")
    assert classes.training.learning_rate < narrow.training.learning_rate
    margin = recipe(facts(width=384), 5000, loss="multilabel_margin")
    assert margin.training.learning_rate < narrow.training.learning_rate


def test_small_data_gets_more_passes_and_presets_order_the_effort():
    assert recipe(facts(), 300).training.epochs > recipe(facts(), 30_000).training.epochs
    assert PRESETS == ("fast", "balanced", "accurate")
    for rows in (300, 1500, 5000, 9000, 30_000):
        epochs = [recipe(facts(), rows, preset=preset).training.epochs for preset in PRESETS]
        assert epochs[0] < epochs[1] < epochs[2]


def test_biases_start_at_the_priors_where_outputs_are_log_odds():
    assert recipe(facts(), 5000).training.prior_bias
    asked = {"training.prior_bias": True}
    for loss in ("asl", "multilabel_margin"):
        settled = recipe(facts(), 5000, loss=loss)
        assert not settled.training.prior_bias
        assert loss in settled.reasons["training.prior_bias"]
        assert recipe(facts(), 5000, loss=loss, **asked).training.prior_bias
    assert not recipe(facts(), 5000, task="regression", loss="mse").training.prior_bias


def test_what_was_given_is_kept_and_every_other_choice_has_a_reason():
    settled = recipe(facts(), 5000, **{"training.epochs": 7, "encoder.pooling": "mean"})
    assert settled.training.epochs == 7
    assert settled.pooling == "mean"
    assert set(settled.reasons) == {
        "training.learning_rate",
        "training.head_learning_rate",
        "training.batch_size",
        "training.prior_bias",
    }


def test_a_pipe_given_as_configuration_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match="not a regular file"):
        resolve_config(file=tmp_path / "run.toml")
