from accelerate import Accelerator

from pretrain.config import load_config
from pretrain.meter import Meter
from pretrain.run_dir import RunDirectory, read_metrics


def test_speed_and_waiting_count_from_the_first_step_and_leave_out_pauses(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("pretrain.meter.time.perf_counter", lambda: clock[0])
    config = load_config("debug", ["run.steps=4", "optimizer.warmup_steps=1"])
    encoder = config.model.encoder(vocab_size=100, pad_id=0)
    run = RunDirectory(tmp_path)
    meter = Meter(config, encoder, Accelerator(cpu=True), run)
    clock[0] += 1000  # what is set up before the first step

    def steps():
        for _ in range(4):
            clock[0] += 1  # the data loader
            yield

    losses = {"mlm_loss": 2.0, "nsp_loss": 0.5, "learning_rate": 0.1, "grad_norm": 1.0}
    for number, _ in enumerate(meter.timed(steps()), start=1):
        clock[0] += 4  # the step
        meter.add(**losses, tokens=50, squares=2500)
        if number % 2 == 0:
            meter.log(number, 50 * number)
            clock[0] += 100  # an evaluation
            meter.pause(100)

    lines = [line.values for line in read_metrics(tmp_path)]
    assert [line["tokens_per_second"] for line in lines] == [10, 10]
    assert [line["data_wait"] for line in lines] == [0.2, 0.2]
    assert [line["tokens"] for line in lines] == [100, 200]
    assert lines[0]["loss"] == 2.5
    assert lines[0]["mfu"] is None
