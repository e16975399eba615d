"""A head in words: attribute records of the generator as captions in varied English.

"an old woman with short curly grey hair and round glasses". Any attribute may be missing, and a value that is not
known is left out rather than guessed.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np

Attributes = Mapping[str, object]

_NONE = ("", "none")
_SHORN = {
    "bald": ("a bald head", "no hair"),
    "shaved": ("a shaved head",),
    "buzz": ("a buzz cut", "closely cropped hair"),
}
_GATHERED = {
    "bun": ("{} hair in a bun", "{} hair tied up in a bun"),
    "high bun": ("{} hair in a high bun", "a high bun of {} hair"),
    "tail": ("a {} ponytail", "{} hair in a ponytail"),
    "ponytail": ("a {} ponytail", "{} hair in a ponytail"),
    "pigtails": ("{} pigtails", "{} hair in pigtails"),
    "braid": ("{} braided hair", "a {} braid"),
    "twists": ("{} twists", "{} hair in twists"),
    "dreadlocks": ("{} dreadlocks", "long {} dreadlocks"),
    "afro": ("a {} afro", "{} afro hair"),
    "bob": ("a {} bob", "a bob of {} hair"),
}
_LENGTHS = ("short", "medium", "long")
_CURLS = {
    "straight": ("straight", ""),
    "wavy": ("wavy",),
    "curly": ("curly",),
    "coily": ("tightly curled", "curly", "frizzy"),
}
_BEARDS = {
    "stubble": ("stubble", "a few days' stubble"),
    "full": ("a {}full beard", "a {}beard"),
    "goatee": ("a {}goatee",),
    "moustache": ("a {}moustache",),
    "circle": ("a {}circle beard",),
    "chinstrap": ("a {}chinstrap beard",),
}
_GARMENTS = {
    "crew": "t-shirt", "wide": "wide-necked top", "scoop": "scoop-necked top", "vee": "v-neck", "shirt": "shirt",
    "turtle": "turtleneck",
}  # fmt: skip
_FACES = {
    "smile": ("smiling", "with a smile"), "toothy smile": ("smiling broadly", "with a broad smile"),
    "laugh": ("laughing", "with a laugh"), "lips parted": ("with parted lips",), "talking": ("talking", "speaking"),
    "pursed": ("with pursed lips",), "serious": ("looking serious", "with a serious face"),
    "eyes closed": ("with closed eyes",), "surprised": ("looking surprised",), "sad": ("looking sad",),
    "angry": ("looking angry",),
}  # fmt: skip
_LUMINANCE = (0.2126, 0.7152, 0.0722)


def caption(attributes: Attributes, rng: np.random.Generator) -> str:
    """One caption; the same record and generator state give the same words."""
    who = _person(attributes, rng)
    traits = [text for text in (_hair(attributes, rng), _beard(attributes, rng)) if text]
    worn = [text for text in (_glasses(attributes, rng), _hat(attributes, rng), _earrings(attributes)) if text]
    extra = [text for text in (_makeup(attributes), _skin(attributes, rng)) if text]
    kept = traits + worn + [text for text in extra if rng.random() < 0.5]
    order = list(rng.permutation(len(kept))) if rng.random() < 0.3 else list(range(len(kept)))
    having = _listed([kept[k] for k in order])
    garment = _garment(attributes) if rng.random() < 0.6 else ""
    face = _picked(_FACES.get(_word(attributes, "expression"), ()), rng)
    doing = face if face and not (face.startswith("with ") and having) else ""
    if face and not doing:
        having = _listed([face.removeprefix("with "), having])
    template = int(rng.integers(3))
    if template == 0:
        words = [who, doing, f"with {having}" if having else "", f"wearing {garment}" if garment else ""]
    elif template == 1:
        words = [who, f"with {having}" if having else "", f", wearing {garment}" if garment else ""]
        words = [*words, f", {doing}"] if doing else words
    else:
        portrait = str(rng.choice(["a portrait of", "a photo of", "a close-up of"]))
        words = [portrait, who, f"with {having}" if having else "", f"in {garment}" if garment else ""]
        words = [*words, f", {doing}"] if doing else words
    return " ".join(word for word in words if word).replace(" ,", ",")


def color_word(albedo: Sequence[float]) -> str:
    """An everyday name of hair of a linear albedo [3]."""
    red, green, blue = (float(np.clip(channel, 0, 1)) for channel in albedo)
    bright = red * _LUMINANCE[0] + green * _LUMINANCE[1] + blue * _LUMINANCE[2]
    hue, saturation, _ = colorsys.rgb_to_hsv(*(channel ** (1 / 2.2) for channel in (red, green, blue)))
    if saturation < 0.14:
        return "black" if bright < 0.03 else "grey" if bright < 0.4 else "white"
    if not 0.01 <= hue <= 0.16:
        edges = ((0.01, "red"), (0.2, "yellow"), (0.45, "green"), (0.53, "turquoise"), (0.72, "blue"), (0.94, "purple"))
        return next((name for edge, name in edges if hue < edge), "red")
    if red > 0.1 and red > 2.6 * green:
        return "red"
    return next(
        (name for edge, name in ((0.018, "black"), (0.045, "dark brown"), (0.13, "brown"), (0.2, "light brown"))
         if bright < edge),
        "blond",
    )  # fmt: skip


def _person(attributes: Attributes, rng: np.random.Generator) -> str:
    maleness, years = _number(attributes, "maleness"), _years(attributes)
    male = None if maleness is None else maleness > 0.5
    adult = {True: "man", False: "woman", None: "person"}[male]
    child = {True: "boy", False: "girl", None: "child"}[male]
    whose = {True: "his", False: "her", None: "their"}[male]
    if years is None:
        return _with_article(adult)
    if years < 17:
        return _with_article(_picked((f"teenage {child}" if male is not None else "teenager", child), rng))
    if years < 30:
        return _with_article(_picked((f"young {adult}", f"young {adult}", f"{adult} in {whose} twenties"), rng))
    if years < 45:
        return _with_article(_picked((adult, f"{adult} of about {5 * round(years / 5)}"), rng))
    if years < 60:
        return _with_article(_picked((f"middle-aged {adult}", f"{adult} in middle age"), rng))
    return _with_article(_picked((f"old {adult}", f"elderly {adult}", f"old {adult}"), rng))


def _years(attributes: Attributes) -> float | None:
    years, age = _number(attributes, "age_years"), _number(attributes, "age")
    if years is not None:
        return years
    return None if age is None else float(np.interp(age, [0.0, 0.5, 1.0], [11.0, 25.0, 80.0]))


def _hair(attributes: Attributes, rng: np.random.Generator) -> str:
    style = _word(attributes, "hair_style")
    if _word(attributes, "hat") in ("headscarf", "beanie"):
        return ""  # little of it shows
    if style in _SHORN:
        return _picked(_SHORN[style], rng)
    color, length, curl = _hair_color(attributes), _word(attributes, "hair_length"), _word(attributes, "hair_curl")
    key = next((name for name in sorted(_GATHERED, key=len, reverse=True) if name in style), None)
    if key is not None:
        return " ".join(_picked(_GATHERED[key], rng).format(color).split())
    length = next((word for word in _LENGTHS if word in (length, *style.split()) or style.startswith(word)), length)
    if length in _NONE and style == "crew":
        length = "short"
    if curl in _NONE and "curly" in style:
        curl = "curly"
    length = "medium-length" if length == "medium" else length if length in _LENGTHS else ""
    receding = "receding " if attributes.get("receding") is True and rng.random() < 0.5 else ""
    words = (receding + length, _picked(_CURLS.get(curl, ("",)), rng), color)
    text = " ".join(word for word in words if word.strip())
    return f"{text} hair" if text else ""


def _hair_color(attributes: Attributes) -> str:
    name = _word(attributes, "hair_color_name")
    albedo = attributes.get("hair_albedo", attributes.get("hair"))
    if name in ("rainbow",):
        return "rainbow-coloured"
    if name in _NONE or name == "dyed":
        if not isinstance(albedo, Sequence) or isinstance(albedo, str) or len(albedo) != 3:
            return "dyed" if name == "dyed" else ""
        name = f"dyed {color_word(albedo)}" if name == "dyed" else color_word(albedo)
    return name


def _beard(attributes: Attributes, rng: np.random.Generator) -> str:
    style, length = _word(attributes, "beard"), _word(attributes, "beard_length")
    if style not in _BEARDS:
        return ""
    return _picked(_BEARDS[style], rng).format(f"{length} " if length in ("short", "long") else "")


def _glasses(attributes: Attributes, rng: np.random.Generator) -> str:
    shape, color = _word(attributes, "glasses"), _word(attributes, "glasses_color")
    if shape in _NONE:
        return ""
    if "tinted" in shape:
        return f"{shape.replace('tinted', '').replace('thick', '').strip()} sunglasses".strip()
    rims = "thick-rimmed " if "thick" in shape else ""
    form = shape.replace("thick", "").strip()
    tint = f"{color} " if color not in _NONE and rng.random() < 0.5 else ""
    return f"{rims}{tint}{form} glasses"


def _hat(attributes: Attributes, rng: np.random.Generator) -> str:
    style, color = _word(attributes, "hat"), _word(attributes, "hat_color")
    if style in _NONE:
        return ""
    tint = f"{color} " if color not in _NONE else ""
    if style == "cap backwards":
        return f"a {tint}cap worn backwards"
    return _with_article(f"{tint}{style}")


def _earrings(attributes: Attributes) -> str:
    style = _word(attributes, "earrings")
    return {"": "", "none": "", "hoop": "hoop earrings", "stud": "ear studs", "drop": "drop earrings"}.get(
        style, "earrings"
    )


def _makeup(attributes: Attributes) -> str:
    worn = _word(attributes, "makeup")
    if worn in _NONE:
        return "lipstick" if attributes.get("lipstick") is True else ""
    return "make-up" if worn.count(",") > 1 else worn.replace(", ", " and ")


def _skin(attributes: Attributes, rng: np.random.Generator) -> str:
    found = []
    if attributes.get("freckles") is True:
        found.append("freckles")
    if (_number(attributes, "wrinkles") or 0.0) > 0.6:
        found.append("deep wrinkles")
    return _picked(tuple(found), rng)


def _garment(attributes: Attributes) -> str:
    style, color = _word(attributes, "garment"), _word(attributes, "cloth_color")
    if style in _NONE:
        style = _GARMENTS.get(_word(attributes, "neckline"), "")
    if not style:
        return ""
    return _with_article(f"{color} {style}" if color not in _NONE else style)


def _word(attributes: Attributes, key: str) -> str:
    value = attributes.get(key)
    return value if isinstance(value, str) else ""


def _number(attributes: Attributes, key: str) -> float | None:
    value = attributes.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _picked(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))] if choices else ""


def _listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    clauses = [part for part in parts if part]
    return " and ".join([", ".join(clauses[:-1]), clauses[-1]] if len(clauses) > 1 else clauses)


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeio' else 'a'} {noun}"
