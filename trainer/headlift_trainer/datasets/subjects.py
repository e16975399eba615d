"""The people that the paper evaluates on (appendix F.1), who are never trained on."""

from __future__ import annotations

AVA256_SUBJECTS = (
    "20220809--1034--BJM420",
    "20220815--1307--BMP511",
    "20220831--0751--CMS162",
    "20230224--1359--CMZ386",
    "20230308--1352--BDF920",
    "20230316--1103--BHK376",
    "20230324--0820--AEY864",
    "20230328--0800--BLY735",
    "20230405--1635--AAN112",
    "20230810--1630--ANX726",
    "20230914--1105--BXQ083",
)
NERSEMBLE_SUBJECTS = ("059", "070", "370", "373", "374")
