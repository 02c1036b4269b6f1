"""Loading models: bases, adapters, full checkpoints, and what is refused with one sentence."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from tiny import save_model, tokenizer
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from spectra.assets import fetched
from spectra.errors import AdapterError, CheckpointError, ModelError
from spectra.models import adapter_labels, base_of, body_of, load_base, load_tuned, resolve_model, tuned_kind


@pytest.fixture
def causal(tmp_path: Path) -> str:
    return save_model(tmp_path / "llama", "llama")


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    return save_model(tmp_path / "bert", "bert")


@pytest.fixture
def classifier_adapter(tmp_path: Path, encoder: str) -> Path:
    base = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=3)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_base_comes_in_evaluation_mode_with_a_padding_token(causal: str) -> None:
    loaded = load_base(causal, "causal-lm")
    assert not loaded.model.training and loaded.tokenizer.pad_token_id is not None
    assert loaded.model.config.pad_token_id is not None and loaded.model.dtype == torch.float32


def test_a_tokenizer_without_a_padding_token_pads_with_the_end_of_text(causal: str) -> None:
    words = tokenizer()
    words.pad_token = None
    words.save_pretrained(causal)
    assert load_base(causal, "causal-lm").tokenizer.pad_token == "[EOS]"


def test_an_adapter_is_loaded_on_its_own_base_with_its_own_head(classifier_adapter: Path, encoder: str) -> None:
    assert base_of(classifier_adapter) == encoder
    assert (tuned_kind(classifier_adapter), adapter_labels(classifier_adapter)) == ("classification", 3)
    loaded = load_tuned(classifier_adapter)
    ids = torch.tensor([[2, 9, 3]])
    plain = AutoModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        assert loaded.model(input_ids=ids).logits.shape == (1, 3)
        tuned, base = body_of(loaded.model)(input_ids=ids)[0], plain(input_ids=ids)[0]
        with loaded.model.disable_adapter():  # type: ignore[union-attr,operator]
            off = body_of(loaded.model)(input_ids=ids)[0]
    assert (tuned - base).abs().max() > 1e-3 and torch.equal(off, base)


def test_a_full_checkpoint_without_a_tokenizer_takes_the_one_of_its_base(causal: str, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(causal).save_pretrained(tmp_path / "full")
    loaded = load_tuned(tmp_path / "full", base=causal)
    assert loaded.kind == "causal-lm" and loaded.tokenizer("good")["input_ids"] == tokenizer()("good")["input_ids"]


def test_a_head_that_the_checkpoint_lacks_is_refused_where_it_would_be_random(encoder: str) -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded as masked-lm: cls\.predictions.* would be random"):
        load_base(encoder, "masked-lm")
    assert load_base(encoder, "classification", num_labels=2).model.config.num_labels == 2


def test_a_pickle_is_never_opened(causal: str) -> None:
    weights = Path(causal) / "model.safetensors"
    torch.save(AutoModelForCausalLM.from_pretrained(causal).state_dict(), Path(causal) / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ModelError, match=r"cannot be loaded: .*Give a folder with safetensors weights"):
        load_base(causal, "causal-lm")


def test_a_pickled_adapter_is_never_opened(classifier_adapter: Path) -> None:
    (classifier_adapter / "adapter_model.safetensors").rename(classifier_adapter / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"has adapter_model\.bin instead of adapter_model\.safetensors"):
        load_tuned(classifier_adapter)


def test_code_of_a_repository_is_never_run(causal: str, tmp_path: Path) -> None:
    mark = tmp_path / "code-was-run"
    (Path(causal) / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Evil: pass\n")
    config = Path(causal) / "config.json"
    text = config.read_text().replace('"model_type": "llama"', '"model_type": "evil"')
    config.write_text(
        text.replace("{", '{"auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"},', 1)
    )
    with pytest.raises(ModelError, match=r"brings its own code .* --trust-remote-code"):
        load_base(causal, "causal-lm")
    assert not mark.exists()


def test_an_adapter_of_another_width_is_refused(classifier_adapter: Path, tmp_path: Path) -> None:
    other = AutoModel.from_pretrained(base_of(classifier_adapter)).config
    other.hidden_size, other.intermediate_size = 32, 64
    AutoModel.from_config(other).save_pretrained(tmp_path / "wide")
    tokenizer().save_pretrained(tmp_path / "wide")
    with pytest.raises(AdapterError, match=r"does not fit BertForSequenceClassification: .*Check that it was trained"):
        load_tuned(classifier_adapter, base=str(tmp_path / "wide"))


def test_an_adapter_whose_factors_have_other_names_is_refused(classifier_adapter: Path) -> None:
    with pytest.raises(AdapterError, match=r"The LoRA factors of .* and the modules of BertModel differ: .*Check that"):
        load_tuned(classifier_adapter, kind="encoder")


def test_an_adapter_without_a_task_type_takes_the_kind_of_its_base(causal: str, tmp_path: Path) -> None:
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(causal), LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "untyped")
    assert load_tuned(tmp_path / "untyped").kind == "causal-lm"


def test_an_adapter_that_learns_a_prompt_is_refused(causal: str, tmp_path: Path) -> None:
    config = PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM", num_layers=2, token_dim=16)
    get_peft_model(AutoModelForCausalLM.from_pretrained(causal), config).save_pretrained(tmp_path / "prompt")
    with pytest.raises(AdapterError, match=r"learns a prompt and changes no weight\. Use a LoRA-like adapter\."):
        load_tuned(tmp_path / "prompt")


def test_a_head_of_another_width_is_replaced_and_a_body_of_another_is_refused(tmp_path: Path, encoder: str) -> None:
    AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=3).save_pretrained(tmp_path / "three")
    tokenizer().save_pretrained(tmp_path / "three")
    assert load_base(str(tmp_path / "three"), "classification", num_labels=2).model.config.num_labels == 2
    config = tmp_path / "three" / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 32', '"intermediate_size": 48'))
    with pytest.raises(ModelError, match=r"bert\.encoder.*intermediate.* or of another shape, and would be random"):
        load_base(str(tmp_path / "three"), "classification")


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_truncated_adapter_file_is_named(classifier_adapter: Path, file: str) -> None:
    (classifier_adapter / file).write_bytes((classifier_adapter / file).read_bytes()[:40])
    with pytest.raises(CheckpointError, match=rf"{file}' is (not valid JSON|no readable safetensors file)"):
        load_tuned(classifier_adapter)


def test_a_truncated_checkpoint_is_named(causal: str) -> None:
    weights = Path(causal) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="as causal-lm cannot be loaded"):
        load_base(causal, "causal-lm")


@pytest.mark.parametrize("reference", ["./nowhere", "/nowhere/at/all", "one/two/three"])
def test_a_folder_that_does_not_exist_is_named(reference: str) -> None:
    with pytest.raises(ModelError, match=rf"There is no model folder '{reference}'\. Check the path\."):
        resolve_model(reference)


def test_a_hub_id_is_passed_through_and_told_apart_offline() -> None:
    assert resolve_model("nobody/nothing") == "nobody/nothing"
    with pytest.raises(ModelError, match="The tokenizer of 'nobody/nothing' cannot be loaded"):
        load_base("nobody/nothing", "causal-lm")


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds neither adapter_config\.json nor config\.json"):
        tuned_kind(tmp_path)


@pytest.mark.assets
def test_the_converted_smollm2_knows_the_capital_of_france() -> None:
    if fetched("SmolLM2-135M-Instruct") is None:
        pytest.skip("asset SmolLM2-135M-Instruct is not in the cache")
    loaded = load_base("SmolLM2-135M-Instruct", "causal-lm")
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = loaded.model(**ids).logits[0, -1].argmax()
    assert loaded.tokenizer.decode(best) == " Paris"
    assert "dequantised" in (Path(resolve_model("SmolLM2-135M-Instruct")) / "origin.json").read_text()


@pytest.mark.assets
def test_minilm_finds_a_happy_person_nearer_to_a_very_happy_one() -> None:
    if fetched("all-MiniLM-L6-v2") is None:
        pytest.skip("asset all-MiniLM-L6-v2 is not in the cache")
    loaded = load_base("all-MiniLM-L6-v2", "encoder")
    sentences = ["That is a happy person", "That is a very happy person", "Today is a sunny day"]
    batch = loaded.tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = loaded.model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    cosines = (pooled[0] @ pooled[1:].T).tolist()
    assert cosines == pytest.approx([0.943, 0.257], abs=0.002)  # the model card's own example, to three digits
