import subprocess
import sys

import safetensors.torch
import torch

from sweeper.tasks.base import TrainingState
from sweeper.tasks.state import dump_state
from sweeper.training.adapters import adapter_file


def test_the_file_has_the_trained_tensors_of_a_state_and_nothing_else() -> None:
    parameters = {"lora.a": torch.arange(6.0).reshape(2, 3), "lora.b": torch.tensor(0.1, dtype=torch.float64)}
    moments = {"exp_avg/lora.a": torch.ones(2, 3), "step/lora.a": torch.tensor(3.0)}
    state = TrainingState(parameters=parameters, moments=moments, counters={"patience": 2})
    tensors = safetensors.torch.load(adapter_file(dump_state(state), {"epoch": "3"}))
    assert tensors.keys() == parameters.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == parameters[name].dtype
        assert torch.equal(tensor, parameters[name])


def test_no_torch_is_needed() -> None:
    code = "import sys, sweeper.training.adapters, sweeper.tracking.artifacts; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
