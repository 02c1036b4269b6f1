"""Output heads that are tied to the input embedding: the file holds one matrix for both."""

from collections.abc import Mapping

from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.catalogue import Catalogue

HEADS = ("lm_head", "embed_out", "proj_out", "output_projection", "predictions.decoder")
EMBEDDINGS = {"embed_tokens", "wte", "word_embeddings", "embed_in", "shared", "tok_embeddings"}


def tied_heads(book: Catalogue) -> Mapping[str, StoredMatrix]:
    """W0 by the name of the head, where the base has no head of its own and does not say that it is untied."""
    config = book.checkpoint.config
    if config.get("tie_word_embeddings", True) is False:
        return {}
    embeddings = [matrix for module, matrix in book.matrices.items() if module.rpartition(".")[2] in EMBEDDINGS]
    if len(embeddings) != 1:
        return {}
    return {
        head: embeddings[0] for head in HEADS if not any(f".{module}".endswith(f".{head}") for module in book.matrices)
    }
