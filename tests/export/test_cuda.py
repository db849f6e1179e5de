import shutil

import numpy as np
import pytest

from export import cuda
from export.batching import OutOfMemory, batched_predict
from export.to_onnx import export_onnx
from pii.detect import EMBEDDED_MODEL
from pii.session import make_session, session_predict
from starencoder.errors import CheckpointError, MissingExtraError


def fail(error):
    raise error


def test_bound_buffers_give_what_a_plain_run_gives_in_every_shape():
    session = make_session(EMBEDDED_MODEL / "onnx" / "model_int8.onnx")
    runner = cuda.BoundRunner(session, "cpu", 0)
    results = []
    for seed, seq in enumerate([20, 64, 20, 128]):
        ids = np.random.default_rng(seed).integers(5, 999, (1, seq), np.int32)
        results.append((ids, runner(ids, np.ones_like(ids))))
    for ids, found in results:
        (wanted,) = session.run(None, {"input_ids": ids})
        np.testing.assert_array_equal(found, wanted)
    assert len(runner._bound) == 3


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("CUDA failure 2: out of memory ; GPU=0", OutOfMemory),
        ("Failed to allocate memory for requested buffer of size 9", OutOfMemory),
        ("CUBLAS_STATUS_ALLOC_FAILED", OutOfMemory),
        ("CUDA failure 719: unspecified launch failure", RuntimeError),
    ],
)
def test_only_a_lack_of_memory_is_taken_for_one(monkeypatch, message, kind):
    session = make_session(EMBEDDED_MODEL / "onnx" / "model_int8.onnx")
    runner = cuda.BoundRunner(session, "cpu", 0)
    ids = np.ones((1, 8), np.int32)
    runner(ids, ids)
    monkeypatch.setattr(session, "run_with_iobinding", lambda *_: fail(RuntimeError(message)))
    with pytest.raises(kind):
        runner(ids, ids)
    assert not runner._bound


def test_without_onnxruntime_for_gpus_the_error_says_what_to_install():
    with pytest.raises(MissingExtraError, match=r"pip install 'starencoder\[gpu\]'"):
        cuda.check_cuda()
    with pytest.raises(MissingExtraError, match="starencoder"):
        cuda.cuda_predict(EMBEDDED_MODEL, 0)


def test_a_model_without_a_file_for_gpus_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(CheckpointError, match=rf"export onnx {tmp_path} --precision fp16$"):
        cuda.gpu_plan(tmp_path)
    with pytest.raises(CheckpointError, match="embedded model comes without it"):
        cuda.gpu_plan(EMBEDDED_MODEL)


def test_a_model_in_padded_batches_gives_what_it_gives_chunk_by_chunk(tmp_path):
    shutil.copytree(EMBEDDED_MODEL, tmp_path, dirs_exist_ok=True)
    path, _ = export_onnx(tmp_path)
    shutil.copy(path, tmp_path / "onnx" / "model_fp16.onnx")
    runner = cuda.BoundRunner(make_session(path), "cpu", 0)
    rng = np.random.default_rng(0)
    chunks = [rng.integers(0, 16000, length).tolist() for length in (1, 2, 31, 33, 64, 100, 128)]
    found = batched_predict(runner, cuda.gpu_plan(tmp_path, token_budget=300))(chunks)
    one_by_one = session_predict(make_session(path), 128)
    for ours, wanted in zip(found, one_by_one(chunks), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-3)  # of float16, near 1: 5e-4
