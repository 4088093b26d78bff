"""Self-supervised pre-training: photographs without masks -> an image encoder to start a training from."""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from DataLoader import make_loader
from figures import mosaic, write_picture
from maps import Record, check_records, read_image
from prediction.photographs import find_photographs
from runlog import RunLog
from segment_anything.build_sam import MODEL_SPECS, PATCH_SIZE, build_network
from segment_anything.checkpoint import model_metadata
from segment_anything.modeling.sam import PIXEL_MEAN, PIXEL_STD
from segment_anything.training.masked import CELL, MaskedAutoencoder
from segment_anything.training.optimisation import learning_rate_factor
from segment_anything.training.sampling import Draw, EpochBatches, nested_share, step_stream
from segment_anything.training.state import load_state, save_checkpoint
from segment_anything.utils.transforms import Preprocessing, window_frame
from utils import StopSignals, UsageError, autocast_dtype, cpu_workers, refuse_other_run

logger = logging.getLogger("pretrain")
SIDES = (0.4, 1.0)  # of the random window, in shares of the photograph's shorter side
PICTURED = 4  # photographs whose restoration is drawn after each epoch
WEIGHT_DECAY = 0.05  # with these betas as in He et al. 2022, table 8
BETAS = (0.9, 0.95)
FREE_ON_RESUME = {"resume", "work_dir", "run_name", "input", "num_workers", "device"}
POSITION = ("epoch", "done", "step", "seconds", "total", "history")


class Photographs(Dataset):
    """Random windows of photographs, turned and mirrored: float32 [3, S, S], the same for the same `Draw`."""

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing, *, seed: int) -> None:
        self.paths, self.preprocessing, self.seed = paths, preprocessing, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: Draw) -> Tensor:
        rng = draw.stream(self.seed)
        photograph = read_image(self.paths[draw.index])
        frame = self.preprocessing.frame(photograph)
        height, width = frame.crop_size
        side = max(1, round(min(height, width) * rng.uniform(*SIDES)))
        y, x = frame.crop[0] + rng.integers(height - side + 1), frame.crop[1] + rng.integers(width - side + 1)
        image = self.preprocessing.image(photograph, window_frame(frame, (y, x, y + side, x + side)))
        image = np.rot90(image, rng.integers(4), axes=(1, 2))
        return torch.from_numpy(np.ascontiguousarray(image[..., ::-1] if rng.random() < 0.5 else image))


class Pretraining:
    """A run and where it stands, so that it can stop and go on at any step."""

    def __init__(self, args: argparse.Namespace, folder: Path, device: torch.device) -> None:
        self.args, self.folder, self.device = args, folder, device
        spec = MODEL_SPECS[args.model_type]
        try:
            self.model = MaskedAutoencoder(image_size=args.image_size, patch_size=PATCH_SIZE, **vars(spec)).to(device)
        except ValueError as error:
            raise UsageError(f"--image_size: {error}") from error
        self.preprocessing = Preprocessing(args.image_size)
        paths = [photograph.path for photograph in find_photographs(args.input)]
        chosen = [paths[i] for i in nested_share(len(paths), args.share, args.seed)]
        check_records([Record(path, ()) for path in chosen])
        logger.info(f"{len(chosen)} photographs")
        self.batches = EpochBatches(len(chosen), args.batch_size, seed=args.seed)
        dataset = Photographs(chosen, self.preprocessing, seed=args.seed)
        workers = cpu_workers(args.num_workers)
        self.loader = make_loader(dataset, num_workers=workers, batches=self.batches, join=torch.stack)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=args.lr, betas=BETAS, fused=True)
        self.total_steps = args.epochs * len(self.batches)
        self.epoch = self.done = self.step = 0
        self.seconds = self.total = 0.0
        self.history: list[dict[str, Any]] = []
        self.stop = StopSignals()

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters that decay, and those that do not: norms, biases and single vectors."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        decays = [p for p in trained if p.ndim > 1]
        return [
            {"params": decays, "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]

    def fit(self) -> bool:
        """Train to the last epoch; False where SIGINT or SIGTERM ended it earlier, after saving."""
        log = RunLog(self.folder)
        with self.stop:
            while self.epoch < self.args.epochs:
                if not self._epoch():
                    self.save()
                    return False
                entry = {"epoch": self.epoch + 1, "step": self.step, "seconds": round(self.seconds, 1)}
                self.history.append(entry | {"loss": self.total / self.done})
                self.epoch, self.done, self.total = self.epoch + 1, 0, 0.0
                log.add(self.history)
                logger.info("  ".join(f"{name} {value:.5g}" for name, value in self.history[-1].items()))
                self.save()
                self.draw()
        return True

    def _epoch(self) -> bool:
        """The rest of an epoch; False after a signal."""
        self.model.train()
        self.batches.set_position(self.epoch, skip=self.done)
        name = f"epoch {self.epoch + 1}/{self.args.epochs}"
        bar = tqdm(self.loader, desc=name, initial=self.done, total=len(self.batches), unit="step")
        started = time.monotonic()
        for images in bar:
            loss = self._step(images.to(self.device))
            bar.set_postfix(loss=f"{loss:.4f}")
            now = time.monotonic()
            self.seconds, started = self.seconds + now - started, now
            if self.stop.asked:
                bar.close()
                return self.done == len(self.batches)
        return True

    def _step(self, images: Tensor) -> float:
        factor = learning_rate_factor(self.step, self.total_steps, warmup=self.total_steps // 20, schedule="cosine")
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.lr * factor
        shown = self.shown(len(images), self.step).to(self.device)
        with torch.autocast(self.device.type, autocast_dtype(self.device), enabled=self.args.use_amp):
            loss, _ = self.model(images, shown)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        value = loss.item()
        if not np.isfinite(value):
            raise UsageError(f"--lr {self.args.lr:g}: at step {self.step} the loss is {value}; start again with less.")
        self.optimizer.step()
        self.step, self.done, self.total = self.step + 1, self.done + 1, self.total + value
        return value

    def shown(self, count: int, step: int) -> Tensor:
        """Which patch of each cell is shown: int64 [count, g/2, g/2]."""
        cells = self.args.image_size // PATCH_SIZE // CELL
        return torch.randint(CELL**2, (count, cells, cells), generator=step_stream(self.args.seed, step))

    # --- files --------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint folder: a whole model whose encoder is the present one, and the state of this run."""
        torch.manual_seed(self.args.seed)
        spec, size = MODEL_SPECS[self.args.model_type], self.args.image_size
        whole = build_network(spec, image_size=size, encoder_adapter=False)
        learnt = self.model.encoder_state(whole.image_encoder)
        weights = whole.state_dict() | {f"image_encoder.{name}": value for name, value in learnt.items()}
        state = {name: getattr(self, name) for name in POSITION}
        state |= {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "flags": self._flags()}
        metadata = model_metadata(whole, self.args.model_type)
        save_checkpoint(self.folder, f"step-{self.step:07d}", weights, metadata, state, ["last"])

    def _flags(self) -> dict[str, Any]:
        return {f"--{name}": value for name, value in vars(self.args).items() if name not in FREE_ON_RESUME}

    def resume(self, folder: Path) -> None:
        """Go on from a checkpoint folder of this run. Raises UsageError for another run's, and names its flags."""
        state = load_state(folder)
        refuse_other_run(folder, self.folder, state["flags"], self._flags())
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in POSITION:
            setattr(self, name, state[name])
        logger.info(f"resumed from {folder}: epoch {self.epoch + 1}, step {self.step}")

    @torch.no_grad()
    def draw(self) -> None:
        """Write restored.png: photographs, what is shown of them, and what is made of that."""
        self.model.eval()
        dataset = self.loader.dataset
        count = min(PICTURED, len(dataset))
        images = torch.stack([dataset[Draw(0, i, i)] for i in range(count)]).to(self.device)
        seen, restored = self.model.pictures(images, self.shown(count, 0).to(self.device))
        tiles = [_pixels(picture) for group in zip(images, seen, restored, strict=True) for picture in group]
        write_picture(self.folder / "restored.png", mosaic(tiles, columns=3))


def _pixels(image: Tensor) -> np.ndarray:
    """Normalised [3, S, S] -> RGB uint8 [S, S, 3]."""
    pixels = image.permute(1, 2, 0).cpu().numpy() * np.float32(PIXEL_STD) + np.float32(PIXEL_MEAN)
    return pixels.round().clip(0, 255).astype(np.uint8)
