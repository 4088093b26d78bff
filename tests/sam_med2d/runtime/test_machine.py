"""What is said of the machine has the form that the doctor shows; the time of half precision leaves nothing behind."""

import torch

from sam_med2d.runtime import machine


def test_the_parts_of_the_machine_are_there():
    processor, memory = machine.processor(), machine.memory()
    assert processor["cores"] >= 1 and processor["threads"] == torch.get_num_threads()
    assert processor["features"].keys() == set(machine.FEATURES.values())
    assert memory["all"] is None or memory["all"] >= memory["free"] > 0
    assert isinstance(machine.accelerators()["gpus"], list)


def test_half_precision_is_timed_in_turn_with_float32(tiny_type):
    found = machine.half_precision(torch.device("cpu"), rounds=1)
    times = found["milliseconds"]
    assert found["dtype"] == "bfloat16" and found["speed"] == round(times["float32"] / times["half"], 2)
    assert found["pays"] == (times["float32"] / times["half"] > machine.PAYS)
