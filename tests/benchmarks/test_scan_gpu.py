import functools
import shutil
import sys

import pytest

from benchmarks import scan_gpu
from export.cuda import BoundRunner, gpu_plan
from export.to_onnx import export_onnx
from pii.detect import EMBEDDED_MODEL
from pii.session import ONNX_FILES, make_session


@pytest.fixture
def model(tmp_path_factory):
    """The embedded model with its float32 graph in the place of the one for GPUs."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copytree(EMBEDDED_MODEL, folder, dirs_exist_ok=True)
    path, _ = export_onnx(folder)
    shutil.copy(path, folder / ONNX_FILES["fp16"])
    return folder


def open_on_cpu(folder, device):
    return BoundRunner(make_session(folder / ONNX_FILES["fp16"]), "cpu", 0)


def test_the_benchmark_runs_where_the_gpu_is_a_cpu(model, tmp_path, monkeypatch, capsys):
    for index in range(10):
        (tmp_path / f"{index}.py").write_text(f"# Ada Example {index}\nx = {index}\n" * 20)
    monkeypatch.setattr(scan_gpu, "check_cuda", lambda: None)
    monkeypatch.setattr(scan_gpu, "open_cuda", open_on_cpu)
    monkeypatch.setattr(scan_gpu, "BUDGETS", (256, 512))
    monkeypatch.setattr(scan_gpu, "SECONDS", 0.01)
    monkeypatch.setattr(scan_gpu, "NEIGHBOURS", 4)
    monkeypatch.setattr(scan_gpu, "gpu_plan", functools.partial(gpu_plan, token_budget=256))
    monkeypatch.setitem(sys.modules, "transformers", None)
    arguments = ["--source", str(tmp_path), "--model", str(model), "--size", "0.05"]
    scan_gpu.main([*arguments, "--only", "model", "spans"])
    out = capsys.readouterr().out
    assert "without CUDA graphs" in out
    assert "S = 128" in out
    assert "a chunk's bits differ from those alone in " in out
    assert "the pipeline is left out" in out
