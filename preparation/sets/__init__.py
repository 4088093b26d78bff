"""The data sets that can be prepared, one module each: the public ones, and forms in which a lab has its own."""

from ..source import DataSet
from .binary import BINARY
from .chase import CHASE
from .coco import COCO
from .ddr import DDR
from .drishti import DRISHTI
from .drive import DRIVE
from .eophtha import EOPHTHA
from .fives import FIVES
from .folder import FOLDER
from .g1020 import G1020
from .hrf import HRF
from .idrid import IDRID
from .labelmap import LABELMAP
from .les_av import LES_AV
from .origa import ORIGA
from .papila import PAPILA
from .refuge import REFUGE
from .rimone_dl import RIMONE_DL
from .rimone_r3 import RIMONE_R3
from .smdg import SMDG
from .stare import STARE

DISCS = (SMDG, REFUGE, DRISHTI, RIMONE_DL, RIMONE_R3, ORIGA, G1020, PAPILA)
LESIONS = (IDRID, DDR, EOPHTHA)
VESSELS = (DRIVE, CHASE, STARE, HRF, FIVES, LES_AV)

TABLE: dict[str, DataSet] = {data_set.name: data_set for data_set in (*DISCS, *LESIONS, *VESSELS)}
GENERIC: dict[str, DataSet] = {form.name: form for form in (FOLDER, BINARY, LABELMAP, COCO)}
