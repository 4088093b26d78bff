"""Training: from flags to checkpoints.

arguments.py    which values of train.py's flags cannot work
command.py      what train.py does: the run's folder, the model, the trainer, the message on how to go on
data_splits.py  training and validation photographs of --data_path
trainer.py      the run: epochs, steps, validation, saving, resuming
step.py         one training step, from a batch to the losses of its rounds; its head tells the whole step
losses.py       mask, IoU and presence losses on logits
optimizer.py    AdamW, the learning rate's schedule, gradients of an update, the weights' moving average
validation.py   fixed masks and prompts of the validation photographs, predicted and scored
checkpoints.py  folders of weights and state, whole or absent
run_log.py      history.csv, curves.png, pictures, TensorBoard events
"""
