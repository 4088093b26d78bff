"""The HTTP interface of the annotation app, and the page that uses it.

Masks travel as uncompressed RLE of COCO: {"size": [height, width], "counts": [...]}, runs down the columns, the first
one of background. Positions are pixels of the photograph, x before y; boxes are half-open.
"""

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import cv2
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from app.annotations import ABSENT_VERSION, HISTORY, MOST_LOST, Annotations
from app.annotator import Annotator
from app.gate import Gate
from app.sentences import sentence_of
from app.turns import Dropped
from sam_med2d.data.image_io import size_of
from sam_med2d.errors import DataError, UsageError
from sam_med2d.inference.prompt_sources import Prompt
from segment_anything.refinement.refine import Refinement
from segment_anything.refinement.tiling import Tiles
from segment_anything.utils.rle import mask_to_rle, rle_to_mask

STATIC = Path(__file__).parent / "static"
HOSTS = ["127.0.0.1", "localhost"]  # a page of elsewhere, whose name was made to lead here, is not answered
QUALITY = 95  # of the JPEG that is looked at; masks come from the photograph itself
LONGEST = 65_500  # pixels of a side in OpenCV's JPEG, and about those of a browser's canvas

logger = logging.getLogger("app")
Name = Annotated[str, Header(max_length=64)]  # of a page
Number = Annotated[int | None, Header(ge=1)]  # of a page's prompts: higher ones are newer
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Click(BaseModel):
    """A position, and whether it is on the structure."""

    x: Finite
    y: Finite
    foreground: bool = True


class PromptRequest(BaseModel):
    """A prompt for the mask of a structure, and the refinement of its answer.

    structure_prompt: whether the structure itself is a prompt, alone or beside box and clicks.
    """

    structure: str
    structure_prompt: bool = False
    box: tuple[Finite, Finite, Finite, Finite] | None = None
    clicks: list[Click] = Field([], max_length=100)
    zoom: bool = False
    tiles: bool = False
    mirror: bool = False


class Mask(BaseModel):
    """An uncompressed RLE; `confirmed` where a save may take much of the saved mask."""

    confirmed: bool = False
    size: tuple[int, int]
    counts: list[Annotated[int, Field(ge=0, le=2**31)]]


def build(annotator: Annotator, annotations: Annotations, *, token: str | None) -> FastAPI:
    """The application. Errors come as {"detail": what is wrong and what to do}, one sentence or two.

    Args:
        annotator: that predicts.
        annotations: that reads and writes masks.
        token: which a request must know, see `Gate`; None: everything that reaches this machine's port is answered.
    """
    same = [Depends(_same_project(annotations.key))]
    app = FastAPI(title="Annotate fundus photographs", docs_url=None, redoc_url=None, dependencies=same)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app.add_middleware(Gate, token=token, cookie=f"annotate_{annotations.key}")
    app.exception_handler(Dropped)(lambda _, error: JSONResponse({"detail": str(error)}, 409))
    app.exception_handler(RequestValidationError)(_teller(422, sentence_of))
    for kind, status in ((DataError, 409), (ValueError, 422), (OSError, 500)):
        app.exception_handler(kind)(_teller(status))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.get("/", response_class=FileResponse)(lambda: STATIC / "index.html")
    _add_photographs(app, annotator, annotations)
    _add_answers(app, annotator, annotations)
    _add_masks(app, annotator, annotations)
    return app


def _add_photographs(app: FastAPI, annotator: Annotator, annotations: Annotations) -> None:
    """What there is to annotate, and the pictures."""
    known = annotator.model.prompt_encoder.structures

    @app.get("/api/project")
    def project() -> dict[str, Any]:
        """Photographs with the structures that have a mask or are known to be absent; structures, and whether the
        weights know their names."""
        structures = [{"name": name, "known": name in known} for name in annotations.structures]
        photographs = [
            {
                "name": photograph.name,
                "done": list(annotations.masks(number)),
                "absent": annotations.absent_structures.of(number),
            }
            for number, photograph in enumerate(annotator.photographs)
        ]
        about = {"key": annotations.key, "out": str(annotations.out)}
        return {**about, "photographs": photographs, "structures": structures}

    @app.get("/api/photographs/{number}/image")
    def image(number: int, page: Annotated[str, Query(max_length=64)] = "") -> Response:
        """The photograph, upright, as JPEG; `page` is the X-Page of what asks for answers and saves masks of it."""
        pixels = annotator.image(_existing(number, annotator), page)
        if max(pixels.shape) > LONGEST:
            raise DataError(f"{annotator.photographs[number].path} has a side above {LONGEST} pixels: crop it")
        jpeg = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        return Response(jpeg.tobytes(), media_type="image/jpeg", headers={"Cache-Control": "no-store"})


def _add_answers(app: FastAPI, annotator: Annotator, annotations: Annotations) -> None:
    """The predictions of the model. A page (X-Page) awaits one at a time, that of its newest prompt (X-Prompt)."""
    known = annotator.model.prompt_encoder.structures

    @app.post("/api/photographs/{number}/answer")
    def answer(number: int, request: PromptRequest, x_page: Name = "", x_prompt: Number = None) -> dict[str, Any]:
        """The predicted mask, with its predicted IoU, and for a structure prompt the probability that it is there."""
        clicks = tuple((click.x, click.y, int(click.foreground)) for click in request.clicks)
        label = _listed(request.structure, annotations)
        if request.structure_prompt and label not in known:
            raise HTTPException(422, f"The weights do not know {label} by name: give a box or a click.")
        prompt = Prompt(label, structure=request.structure_prompt, box=request.box, points=clicks)
        refinement = Refinement(
            mirror=request.mirror,
            zoom=request.zoom,
            tiles=Tiles() if request.tiles else None,
            multimask=annotator.multimask,
        )
        who = {"page": x_page, "number_of_prompt": x_prompt}
        prediction = annotator.predict(_existing(number, annotator), prompt, refinement, **who)
        return {
            "mask": mask_to_rle(prediction.mask(), compressed=False),
            "predicted_iou": prediction.predicted_iou,
            "presence": prediction.presence if prompt.structure else None,
            "absent": prediction.absent,
        }

    @app.get("/api/answers/{prompt}")
    def step(prompt: int, x_page: Name = "") -> dict[str, Any] | None:
        """How far the answer to a prompt is: kind of views, done ones, all; null while it waits, and afterwards."""
        turn = annotator.turns.find(x_page, prompt)
        return turn.step._asdict() if turn and turn.step else None

    @app.delete("/api/answers/{prompt}", status_code=204)
    def cancel(prompt: int, x_page: Name = "") -> None:
        """End a prediction that is not wanted any more."""
        annotator.turns.cancel(x_page, prompt)


def _add_masks(app: FastAPI, annotator: Annotator, annotations: Annotations) -> None:
    """The saved masks: read, written, removed, one at a time."""
    lock = Lock()

    @app.get("/api/photographs/{number}/masks/{structure}")
    def read(number: int, structure: str, response: Response) -> dict[str, Any]:
        """A saved mask."""
        response.headers["ETag"] = annotations.version(_existing(number, annotator), _listed(structure, annotations))
        mask = annotations.read(number, structure)
        if mask is None:
            raise HTTPException(404, f"{annotator.photographs[number].name} has no mask of {structure}.")
        if mask.shape != (size := size_of(annotator.photographs[number].path)):
            raise DataError(f"the mask of {structure} has size {[*mask.shape]}, the photograph {[*size]}: draw it anew")
        return mask_to_rle(mask, compressed=False)

    @app.put("/api/photographs/{number}/masks/{structure}")
    def write(
        number: int, structure: str, mask: Mask, request: Request, response: Response, x_page: Name = ""
    ) -> dict[str, str]:
        """Save a mask of the photograph's size; once this has answered, it is on the disk."""
        annotator.check(_existing(number, annotator), x_page, content=True)
        height, width = size_of(annotator.photographs[number].path)
        if mask.size != (height, width):
            raise HTTPException(422, f"The mask has size {list(mask.size)}, the photograph {[height, width]}.")
        pixels = rle_to_mask(mask.model_dump(include={"size", "counts"}))
        with lock:
            _check_version(request, annotations.version(number, _listed(structure, annotations)), structure)
            if pixels.any() and not mask.confirmed:
                _check_loss(*annotations.lost(number, structure, pixels), structure)
            file = annotations.write(number, structure, pixels)
            response.headers["ETag"] = annotations.version(number, structure)
        return {"file": str(file)}

    @app.delete("/api/photographs/{number}/masks/{structure}", status_code=204)
    def remove(number: int, structure: str, request: Request) -> None:
        """Take a mask out of the data set; its file is set aside."""
        with lock:
            version = annotations.version(_existing(number, annotator), _listed(structure, annotations))
            _check_version(request, version, structure)
            annotations.remove(number, structure)

    @app.put("/api/photographs/{number}/absent/{structure}", status_code=204)
    @app.delete("/api/photographs/{number}/absent/{structure}", status_code=204)
    def change_absent(number: int, structure: str, request: Request, response: Response) -> None:
        """Write down that a structure is absent from the photograph, or that this is not known."""
        place = _existing(number, annotator), _listed(structure, annotations)
        with lock:
            _check_version(request, annotations.version(*place), structure)
            annotations.set_absent(*place, request.method == "PUT")
            if version := annotations.version(*place):
                response.headers["ETag"] = version


def _existing(number: int, annotator: Annotator) -> int:
    if not 0 <= number < len(annotator.photographs):
        raise HTTPException(404, f"There is no photograph {number}: there are {len(annotator.photographs)}.")
    return number


def _listed(structure: str, annotations: Annotations) -> str:
    if structure not in annotations.structures:
        raise HTTPException(404, f"There is no structure {structure}: start the server with --structures {structure}.")
    return structure


def _same_project(key: str) -> Callable[[str | None], None]:
    """Refuses requests of a page of other photographs, which the server had before."""

    def check(x_project: Annotated[str | None, Header()] = None) -> None:
        if x_project not in (None, key):
            raise HTTPException(409, "The server was started anew with other photographs: load this page again.")

    return check


def _check_loss(lost: int, saved: int, structure: str) -> None:
    """Refuse a save that takes a large part of the saved mask, until it is confirmed."""
    if lost > MOST_LOST * saved:
        told = f"This takes {lost} of the {saved} pixels of the saved mask of {structure}."
        raise HTTPException(428, f"{told} Send it as confirmed if that is meant; the old file is kept in {HISTORY}.")


def _check_version(request: Request, version: str, structure: str) -> None:
    """Refuse to change another version than was last seen (If-Match), or any (If-None-Match); the answer names it."""
    seen, any_other = request.headers.get("If-Match"), "If-None-Match" in request.headers
    if (seen is not None and seen != version) or (any_other and version):
        absent = f"{structure} is marked as absent, which this page has not shown."
        told = (
            absent if version == ABSENT_VERSION else f"The mask of {structure} is not the one that this page has shown."
        )
        raise HTTPException(412, told, headers={"ETag": version} if version else None)


def _teller(status: int, words: Callable[[Any], str] = str) -> Callable[[Request, Exception], JSONResponse]:
    """Tells the page what went wrong, in the words for an error."""

    def tell(request: Request, error: Exception) -> JSONResponse:
        told = words(error)
        logger.warning(f"{request.method} {request.url.path}: {told}")
        return JSONResponse({"detail": told}, status)

    return tell


def serve(app: FastAPI, port: int, token: str | None) -> int:
    """Serve on this machine alone until Ctrl-C.

    Args:
        app: what `build` returns.
        port: 0 for a free one.
        token: of the application, for the address that is printed.

    Returns:
        Exit code 0.

    Raises:
        UsageError: for a port that is taken.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOSTS[0], port))
            listener.listen()  # from here on a connection waits instead of being refused
        except OSError as error:
            raise UsageError(f"--port {port}: {error.strerror}; give another one, or 0 for a free one.") from error
        ending = f"/?token={token}" if token else ""
        logger.info(f"open http://localhost:{listener.getsockname()[1]}{ending} (Ctrl-C ends)")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
    return 0
