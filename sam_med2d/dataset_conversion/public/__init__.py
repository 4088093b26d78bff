"""The public data sets that can be prepared, one module each."""

from sam_med2d.dataset_conversion.dataset_spec import DataSet
from sam_med2d.dataset_conversion.public.chase import CHASE
from sam_med2d.dataset_conversion.public.ddr import DDR
from sam_med2d.dataset_conversion.public.drishti import DRISHTI
from sam_med2d.dataset_conversion.public.drive import DRIVE
from sam_med2d.dataset_conversion.public.eophtha import EOPHTHA
from sam_med2d.dataset_conversion.public.fives import FIVES
from sam_med2d.dataset_conversion.public.g1020 import G1020
from sam_med2d.dataset_conversion.public.hrf import HRF
from sam_med2d.dataset_conversion.public.idrid import IDRID
from sam_med2d.dataset_conversion.public.les_av import LES_AV
from sam_med2d.dataset_conversion.public.origa import ORIGA
from sam_med2d.dataset_conversion.public.papila import PAPILA
from sam_med2d.dataset_conversion.public.refuge import REFUGE
from sam_med2d.dataset_conversion.public.rimone_dl import RIMONE_DL
from sam_med2d.dataset_conversion.public.rimone_r3 import RIMONE_R3
from sam_med2d.dataset_conversion.public.smdg import SMDG
from sam_med2d.dataset_conversion.public.stare import STARE

DISCS = (SMDG, REFUGE, DRISHTI, RIMONE_DL, RIMONE_R3, ORIGA, G1020, PAPILA)
LESIONS = (IDRID, DDR, EOPHTHA)
VESSELS = (DRIVE, CHASE, STARE, HRF, FIVES, LES_AV)

PUBLIC_SETS: dict[str, DataSet] = {data_set.name: data_set for data_set in (*DISCS, *LESIONS, *VESSELS)}
