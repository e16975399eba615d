"""What can be said of a head: groups of words that exclude each other, phrases, and the vocabulary of the small CLIP.

The generator's captions name hair, beard, glasses and clothes; skin, and what is absent ("no glasses"), are added here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from headlift.model.edit.style import Vocabulary
from headlift_trainer.synthetic.captions import caption, color_word

Record = Mapping[str, Any]

# Group -> value -> how it is said. The first way is the canonical one.
GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "sex": {
        "man": ("a man", "a male person", "a masculine face"),
        "woman": ("a woman", "a female person", "a feminine face"),
    },
    "age": {
        "young": ("a young person", "a youthful face", "a teenager"),
        "middle-aged": ("a middle-aged person", "middle age"),
        "old": ("an old person", "an elderly person", "wrinkled skin", "wrinkles"),
    },
    "hair color": {
        name: (f"{name} hair", f"a person with {name} hair", f"{name}-haired")
        for name in ("black", "brown", "blond", "red", "grey", "white", "blue", "green", "purple", "pink")
    },
    "hair length": {
        "bald": ("a bald head", "no hair", "a shaved head"),
        "short": ("short hair", "a short haircut", "cropped hair"),
        "medium": ("medium-length hair", "shoulder-length hair"),
        "long": ("long hair", "very long hair"),
    },
    "curl": {
        "straight": ("straight hair", "smooth hair"),
        "wavy": ("wavy hair",),
        "curly": ("curly hair", "curls", "an afro"),
    },
    "beard": {
        "none": ("no beard", "a clean-shaven face", "without a beard"),
        "stubble": ("stubble", "short stubble"),
        "beard": ("a full beard", "a beard", "a bearded face"),
        "moustache": ("a moustache", "a goatee"),
    },
    "glasses": {
        "none": ("no glasses", "without glasses"),
        "glasses": ("glasses", "wearing glasses", "round glasses"),
        "sunglasses": ("sunglasses", "dark glasses"),
    },
    "hat": {"none": ("no hat", "without a hat"), "hat": ("a hat", "wearing a hat", "a cap", "a beanie")},
    "skin": {
        "pale": ("pale skin", "fair skin", "very light skin"),
        "light": ("light skin", "rosy skin"),
        "tan": ("tanned skin", "olive skin", "medium skin tone"),
        "brown": ("brown skin",),
        "dark": ("dark skin", "black skin", "very dark skin"),
    },
    "make-up": {
        "none": ("no make-up", "a natural face"),
        "make-up": ("make-up", "lipstick", "eye shadow and lipstick"),
    },
    "clothes": {
        name: (f"{name} clothes", f"a {name} shirt", f"a {name} top")
        for name in ("black", "grey", "white", "blue", "green", "red", "yellow", "purple", "orange", "brown", "pink")
    },
}
SYNONYMS = {
    "younger": "young",
    "older": "old",
    "darker": "dark",
    "paler": "pale",
    "blonde": "blond",
    "gray": "grey",
    "ginger": "red",
    "redhead": "red hair",
    "brunette": "brown hair",
    "guy": "man",
    "men": "man",
    "women": "woman",
    "gentleman": "man",
    "lady": "woman",
    "female": "woman",
    "male": "man",
    "spectacles": "glasses",
    "specs": "glasses",
    "eyeglasses": "glasses",
    "shades": "sunglasses",
    "mustache": "moustache",
    "makeup": "make-up",
    "elderly": "old",
    "aged": "old",
    "youthful": "young",
    "teen": "teenager",
    "tshirt": "t-shirt",
    "jumper": "sweater",
    "pullover": "sweater",
    "fair": "pale",
    "ebony": "dark",
    "bearded": "beard",
    "haired": "hair",
    "unshaven": "stubble",
    "shaven": "clean-shaven",
    "frizzy": "curly",
    "coloured": "dyed",
    "colored": "dyed",
    "hairstyle": "hair",
    "haircut": "hair",
    "complexion": "skin",
    "tanned": "tan",
    "fringe": "hair",
    "violet": "purple",
    "hairless": "bald",
    "bald-headed": "bald",
    "wrinkly": "wrinkles",
    "kid": "child",
    "granny": "old woman",
    "grandmother": "old woman",
    "grandfather": "old man",
    "cyan": "turquoise",
    "teal": "turquoise",
    "rouge": "blush",
    "eyeshadow": "eye shadow",
    "dark-skinned": "dark skin",
    "light-skinned": "light skin",
    "black-haired": "black hair",
}
SILENT = (
    "make", "give", "add", "put", "please", "him", "his", "her", "she", "he", "they", "them", "it", "its", "the", "is",
    "are", "be", "has", "have", "some", "this", "that", "very", "really", "more", "like", "look", "looking", "face",
    "head", "portrait", "photo", "picture", "image", "wears", "me", "my", "on", "style", "styled", "should", "with",
    "and", "a", "an", "of", "in", "to", "years", "year",
)  # fmt: skip
_BASIC = {
    "dark brown": "brown", "light brown": "brown", "auburn": "red", "chestnut": "brown", "platinum": "blond",
    "dark blond": "blond", "strawberry blond": "red", "copper": "red", "ginger": "red", "silver": "grey",
    "turquoise": "blue", "yellow": "blond", "golden": "blond", "sandy": "blond", "salt and pepper": "grey",
}  # fmt: skip
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_SKINS = ((0.105, "dark"), (0.17, "brown"), (0.27, "tan"), (0.38, "light"), (9.0, "pale"))  # linear albedo up to


def values_of(record: Record) -> dict[str, str]:
    """What is surely true of a head, by group; groups that its record says nothing about are left out."""
    found: dict[str, str] = {}
    maleness = record.get("maleness")
    if isinstance(maleness, int | float) and abs(maleness - 0.5) > 0.15:
        found["sex"] = "man" if maleness > 0.5 else "woman"
    years = record.get("age_years")
    if years is None and isinstance(record.get("age"), int | float):
        years = float(np.interp(record["age"], [0.0, 0.5, 1.0], [11.0, 25.0, 80.0]))
    if years is not None:
        found["age"] = "young" if years < 32 else "old" if years >= 60 else "middle-aged"
    return found | _hair(record) | _worn(record)


def _hair(record: Record) -> dict[str, str]:
    """Hair and beard."""
    found: dict[str, str] = {}
    style = str(record.get("hair_style", ""))
    length = _length(record, style)
    if str(record.get("hat", "")) not in ("headscarf", "beanie"):  # little of it shows
        curl = str(record.get("hair_curl", "")) or ("curly" if "curly" in style else "")
        curl = {"coily": "curly"}.get(curl, curl)
        told = {"hair length": length, "hair color": hair_color(record), "curl": curl}
        found = {group: value for group, value in told.items() if value in GROUPS[group]}
        if length == "bald":
            found = {"hair length": length}
    if beard := str(record.get("beard", "")):
        known = {"none": "none", "stubble": "stubble", "full": "beard", "chinstrap": "beard", "circle": "beard"}
        found["beard"] = known.get(beard, "moustache")
    return found


def _worn(record: Record) -> dict[str, str]:
    """Skin, and what is put on."""
    found = {"hat": "none" if str(record.get("hat", "none")) == "none" else "hat"}
    if glasses := str(record.get("glasses", "")):
        found["glasses"] = "none" if glasses == "none" else "sunglasses" if "tinted" in glasses else "glasses"
    if isinstance(record.get("skin_albedo"), list):
        bright = float(np.dot(record["skin_albedo"], _LUMINANCE))
        found["skin"] = next(name for edge, name in _SKINS if bright < edge)
    makeup = str(record.get("makeup", ""))
    if makeup or "lipstick" in record:
        made_up = makeup not in ("", "none") or record.get("lipstick") is True
        found["make-up"] = "make-up" if made_up else "none"
    cloth = str(record.get("cloth_color", ""))
    if not cloth and isinstance(record.get("cloth_albedo"), list):
        cloth = cloth_word(record["cloth_albedo"])
    if cloth in GROUPS["clothes"]:
        found["clothes"] = cloth
    return found


def hair_color(record: Record) -> str:
    """The hair's colour as one of the basic ones, or nothing."""
    name, albedo = str(record.get("hair_color_name", "")), record.get("hair_albedo")
    if name.startswith("greying"):
        return "grey"
    if name in ("", "none", "dyed", "rainbow") and isinstance(albedo, list):
        name = "" if name == "rainbow" else color_word(albedo)
    name = _BASIC.get(name, name)
    return name if name in GROUPS["hair color"] else ""


def cloth_word(albedo: list[float]) -> str:
    """The colour of cloth of a linear albedo, in one word; nothing where no word fits."""
    found = color_word(albedo)
    return {"blond": "yellow", "dark brown": "brown", "light brown": "brown", "turquoise": "blue"}.get(found, found)


def _length(record: Record, style: str) -> str:
    told = str(record.get("hair_length", ""))
    told = {"shaved": "bald", "none": ""}.get(told, told)
    if told in GROUPS["hair length"]:
        return told
    if style in ("bald", "shaved"):
        return "bald"
    if style in ("buzz", "crew"):
        return "short"
    return next((word for word in ("short", "medium", "long") if word in style), "medium" if style == "bob" else "")


def description(record: Record, rng: np.random.Generator) -> str:
    """One way to describe a head: a whole caption with additions, or a few things that are true of it."""
    said = [str(rng.choice(GROUPS[g][v])) for g, v in values_of(record).items() if g in ("skin", "clothes")]
    if rng.random() < 0.5:
        extra = [text for text in said if rng.random() < 0.7]
        return ", ".join([caption(record, rng), *extra])
    values = values_of(record)
    # What is absent is said less often than what is there.
    kept = [g for g in values if rng.random() < (0.2 if values[g] == "none" else 0.6)] or ["hat"]
    order = rng.permutation(len(kept))
    return ", ".join(str(rng.choice(GROUPS[kept[i]][values[kept[i]]])) for i in order if kept[i] in values)


def build_vocabulary(records: Iterable[Record], seed: int = 0, rounds: int = 8) -> Vocabulary:
    """Every word of the phrases above, and of captions of these records."""
    rng = np.random.default_rng(seed)
    blank = Vocabulary((), (), ())
    words: set[str] = set()
    texts = [text for group in GROUPS.values() for ways in group.values() for text in ways]
    texts += [caption(record, rng) for record in records for _ in range(rounds)]
    texts += list(SYNONYMS.values())
    for text in texts:
        # A blank vocabulary reports every word, hyphenated ones apart; whole ones are worth knowing too.
        words.update(blank.read(text)[1])
        words.update(part.strip(",.") for part in text.lower().split() if "-" in part)
    words -= set(SYNONYMS)
    synonyms = {word: read for word, read in SYNONYMS.items() if all(part in words for part in read.split())}
    traits = tuple((group, value, said) for group, ways in GROUPS.items() for value, said in ways.items())
    silent = tuple(w for w in SILENT if w not in words)
    return Vocabulary(tuple(sorted(words)), tuple(sorted(synonyms.items())), silent, traits)
