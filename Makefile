# make demo: install, fine-tune the shipped weights on data_demo, test them, segment a photograph by name.
# make test: install, run the tests that are not marked slow: everything that the project promises, once, in minutes.
# make test-all: every test; make test-slow: those that make test leaves out.
# make lint: ruff's rules and its format.
# make notebook: execute the example notebook on the weights that it names, and store its outputs.
# make onnx WEIGHTS=FILE: export weights to workdir/onnx and segment the demo photograph with the files.
# make test-lowest: the same tests as make test with the lowest versions that the requirements allow, in .venv-lowest.
# All install into .venv once, and again only when the requirements change.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
FUNDUS ?=
DEMO := workdir/models/demo
WEIGHTS ?= pretrain_model/fundus_vit_t.safetensors
ONNX := workdir/onnx
# without an NVIDIA driver a CPU build of PyTorch is preferred
CONSTRAINT := $(if $(wildcard /proc/driver/nvidia),,--constraint constraints-cpu.txt)
LOWEST := .venv-lowest
LIMIT := $(if $(CI),6,3)
PYTEST := $(BIN)/python -m pytest -q tests --numprocesses auto --maxprocesses 4 --dist worksteal --limit-seconds $(LIMIT) \
  --reruns 1 --only-rerun "mark it slow" \
  $(if $(FUNDUS),--fundus=$(FUNDUS))

.PHONY: demo test test-slow test-all test-lowest lint notebook onnx clean

demo: $(INSTALLED)
	rm -rf $(DEMO) workdir/retina
	$(BIN)/python train.py --run_name demo --data_path data_demo --sam_checkpoint $(WEIGHTS) --model_type vit_t \
	  --encoder_adapter False --train_encoder full --epochs 60 --val_every 20 --batch_size 4 --mask_num 3 \
	  --iter_point 2 --point_list 1 2 --num_workers 0
	$(BIN)/python test.py --run_name demo --data_path data_demo --sam_checkpoint $(DEMO)/best --num_workers 0 \
	  --prompts structure box 1 3 5
	$(BIN)/python scripts/predict.py data_demo/images/retina.jpg --sam_checkpoint $(WEIGHTS) --structures all --out workdir/retina

test: $(INSTALLED)
	$(PYTEST) -m "not slow"

test-slow: $(INSTALLED)
	$(PYTEST) -m slow --durations 40

test-all: $(INSTALLED)
	$(PYTEST) --durations 25

test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	sed -nE 's/^([A-Za-z0-9_.-]+)>=([0-9.]+).*/\1==\2/p' requirements*.txt > workdir/lowest.txt
	$(LOWEST)/bin/pip install --quiet --requirement requirements-dev.txt --constraint workdir/lowest.txt
	$(LOWEST)/bin/python -m pytest -q tests -m "not slow" --numprocesses auto --maxprocesses 4 --dist worksteal

onnx: $(INSTALLED)
	$(BIN)/python scripts/export_onnx_encoder_model.py --sam_checkpoint $(WEIGHTS) --output $(ONNX)/encoder.onnx
	$(BIN)/python scripts/export_onnx_model.py --sam_checkpoint $(WEIGHTS) --output $(ONNX)/decoder.onnx
	$(BIN)/python examples/SAM-Med2D-onnxruntime/main.py --encoder_model $(ONNX)/encoder.onnx \
	  --decoder_model $(ONNX)/decoder.onnx

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

notebook: $(INSTALLED)
	$(BIN)/python -c 'import nbclient, nbformat; path = "examples/predictor_example.ipynb"; \
	  notebook = nbformat.read(path, as_version=4); place = {"metadata": {"path": "examples"}}; \
	  nbclient.NotebookClient(notebook, record_timing=False, resources=place).execute(); \
	  nbformat.write(notebook, path)'

clean:
	rm -rf .venv $(LOWEST) workdir/* .pytest_cache .ruff_cache .hypothesis

$(INSTALLED): requirements.txt requirements-onnx.txt requirements-app.txt requirements-dicom.txt requirements-formats.txt requirements-dev.txt \
  constraints-cpu.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements-dev.txt $(CONSTRAINT)
	@$(BIN)/python -c 'import torch; print("PyTorch", torch.__version__, "- GPU" if torch.cuda.is_available() else "- CPU")'
	@if $(BIN)/pip list 2>/dev/null | grep -q '^nvidia-' && ! [ -e /proc/driver/nvidia ]; then \
	  echo "note: pip installed CUDA packages, which this machine has no use for (see docs/getting-started.md)"; fi
	touch $@
