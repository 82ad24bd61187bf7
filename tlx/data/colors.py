"""`builtin:colors`: the 949 colour names of the xkcd survey (Munroe 2010, CC0), which are part of matplotlib.

The columns are:
  name: the colour's name.
  lab: the colour in CIELAB (D65, 2°).
  term: the nearest of the eleven basic colour terms (Berlin & Kay 1969) by ΔE76; the colour of a term is the survey's
    colour of that name.
  traits: labels such as "dark|warm", computed by thresholds on lightness, chroma and hue.
  hex: the colour as `#rrggbb`.
  group: a string that is equal for names made of the same words, so that "reddish brown" and "brown red" are in the
    same part of a split.
"""

import re

import numpy as np

TERMS = ("black", "white", "red", "green", "yellow", "blue", "brown", "orange", "pink", "purple", "grey")

# Irregular forms of colour names and adjectives such as "bluish" in the survey.
_BASES = (*TERMS, "teal")
_ISH = {"bluish": "blue", "gray": "grey", "grayish": "grey", "reddy": "red", "pinky": "pink", "purply": "purple",
        "purpley": "purple", "orangey": "orange", "orangish": "orange", "whitish": "white"}  # fmt: skip


def columns() -> dict[str, list[str] | np.ndarray]:
    """Returns the columns of the set, which has 949 rows; `lab` is float64 (949, 3)."""
    from matplotlib.colors import XKCD_COLORS

    names = sorted(name.removeprefix("xkcd:") for name in XKCD_COLORS)
    codes = [str(XKCD_COLORS["xkcd:" + name]) for name in names]
    lab = srgb_to_lab(np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in codes]) / 255)
    return {
        "name": names, "lab": lab, "term": nearest_terms(lab), "traits": traits(lab), "hex": codes,
        "group": [group(name) for name in names],
    }  # fmt: skip


def basic_terms() -> np.ndarray:
    """Returns the colours of the eleven basic terms in CIELAB, (11, 3), in the order of `TERMS`."""
    from matplotlib.colors import to_rgb

    return srgb_to_lab(np.array([to_rgb("xkcd:" + term) for term in TERMS]))


def nearest_terms(lab: np.ndarray) -> list[str]:
    """Returns the basic term nearest to each colour by ΔE76.

    Args:
      lab: (n, 3), colours in CIELAB.
    """
    distances = np.linalg.norm(lab[:, None] - basic_terms()[None], axis=-1)
    return [TERMS[i] for i in distances.argmin(axis=1)]


def traits(lab: np.ndarray) -> list[str]:
    """Returns the traits of each colour, joined by `|`; many colours have none.

    Args:
      lab: (n, 3), colours in CIELAB.
    """
    lightness, a, b = lab.T
    chroma = np.hypot(a, b)
    has_trait = {
        "dark": lightness < 40,
        "light": lightness > 75,
        "muted": chroma < 25,
        "vivid": chroma > 60,
        "warm": (chroma >= 10) & (a + b > 20),
        "cool": (chroma >= 10) & (a + b < -20),
    }
    return ["|".join(name for name, rows in has_trait.items() if rows[row]) for row in range(len(lab))]


def group(name: str) -> str:
    """Returns the sorted words of a name, each replaced by its base colour; equal for names of the same words.

    The name is converted to lower case, apostrophes are removed, `/` and `-` count as spaces, and two colours that are
    written as one word are separated.

    >>> group("reddish-brown"), group("Brown red"), group("robin's egg"), group("darkblue")
    ('brown red', 'brown red', 'egg robins', 'blue dark')
    """
    words = re.sub(r"[/-]", " ", name.lower().replace("'", "")).split()
    return " ".join(sorted(base for word in words for base in _bases(word)))


def _bases(word: str) -> list[str]:
    pair = re.fullmatch(rf"(dark|light|{'|'.join(_BASES)})({'|'.join(_BASES)})", word)
    return [_base(part) for part in (pair.groups() if pair else (word,))]


def _base(word: str) -> str:
    if word in _ISH:
        return _ISH[word]
    for suffix in ("ish", "y"):
        stem = word.removesuffix(suffix)
        for base in _BASES:  # greenish, browny; purplish loses its e, reddish doubles its d
            if stem != word and stem in (base, base.removesuffix("e"), base + base[-1]):
                return base
    return word


def srgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """Converts sRGB in [0, 1] to CIELAB under D65 (IEC 61966-2-1 and CIE 15), (…, 3) to (…, 3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    t = linear @ TO_XYZ.T / WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


# The matrix from linear sRGB to XYZ (IEC 61966-2-1), and the XYZ of D65 white.
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = TO_XYZ.sum(axis=1)
