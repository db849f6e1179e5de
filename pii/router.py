"""The router: a small convolution over tokens that says which chunks the tagger has to read.

Most chunks of source code hold nothing that a tagger would find, and the tagger is by far the
dearest step. The router gives each token a score from it and its few neighbours; a chunk without a
token that reaches the threshold is not read. It is distilled from the tagger itself
(`pii.train_router`), lies beside it as `onnx/router.onnx`, and can be switched off.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from starencoder.errors import CheckpointError
from starencoder.tokenizer import CodeTokenizer

ROUTER_FILE = "onnx/router.onnx"

KERNEL = 7
"""Tokens that one convolution sees."""
LAYERS = 2
REACH = LAYERS * (KERNEL // 2)
"""Tokens on either side that a token's score depends on."""
VOCABULARY = "vocab_size"
"""Key of the graph's metadata that says which tokenizer it belongs to, as far as a size can."""
THRESHOLD = "threshold_{point}"
"""Key of the threshold for an operating point."""

_BLOCK = 2048
"""Tokens scored at once; what lies between two layers stays in a core's cache."""

Score = Callable[[npt.NDArray[np.int32]], npt.NDArray[np.float32]]
"""Token ids `(n,)` to scores `(n,)`."""


class Router:
    """Decides which chunks are read."""

    def __init__(self, score: Score, threshold: float) -> None:
        """Read the chunks that hold a token whose score reaches a threshold."""
        self._score = score
        self._threshold = threshold

    def scores(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Scores `(n,)` of a document's tokens `(n,)`."""
        scores = np.empty(len(ids), np.float32)
        for start in range(0, len(ids), _BLOCK):
            end = min(start + _BLOCK, len(ids))
            first = max(0, start - REACH)
            block = self._score(ids[first : end + REACH])
            scores[start:end] = block[start - first : end - first]
        return scores

    def wanted(
        self, ids: npt.NDArray[np.int32], starts: Sequence[int], max_tokens: int
    ) -> npt.NDArray[np.bool_]:
        """Which chunks hold a token of interest: for each of `starts`, shape `(len(starts),)`."""
        before = np.concatenate([[0], np.cumsum(self.scores(ids) >= self._threshold)])
        first = np.asarray(starts, np.int64)
        last = np.minimum(first + max_tokens, len(ids))
        wanted: npt.NDArray[np.bool_] = before[last] > before[first]
        return wanted


def load_router(
    directory: Path, tokenizer: CodeTokenizer, operating_point: str, *, threads: int = 1
) -> Router | None:
    """A model directory's router for an operating point; None if it has none.

    Raises:
        CheckpointError: It is no graph of ours, or belongs to another tokenizer.
        MissingExtraError: ONNX Runtime is not installed.
    """
    path = directory / ROUTER_FILE
    if not path.is_file():
        return None
    from pii.session import make_session

    session = make_session(path, threads=threads, optimised=True)
    metadata = session.get_modelmeta().custom_metadata_map
    names = [value.name for value in (*session.get_inputs(), *session.get_outputs())]
    key = THRESHOLD.format(point=operating_point)
    if (
        names != ["input_ids", "scores"]
        or metadata.get(VOCABULARY) != str(tokenizer.vocab_size)
        or key not in metadata
    ):
        raise CheckpointError(
            f"{path}: not the router of this tokenizer of {tokenizer.vocab_size} tokens; make it "
            f"again with: starencoder pii train-router {directory} PACKAGES"
        )

    def score(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = session.run(["scores"], {"input_ids": ids})[0]
        return scores

    return Router(score, float(metadata[key]))
