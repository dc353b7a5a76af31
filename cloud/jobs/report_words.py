"""The words of reports in the languages of the pages: labels by what they are in English, values as the pages say them.

JSON keeps the English labels and the API's own values, whoever reads it: programs go by them.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Final, Literal, TypeAlias

import shared

Language: TypeAlias = Literal["en", "sw", "fr"]

_STRINGS: Final = Path(shared.__file__).parent / "web" / "strings"

#: Swahili, French.
LABELS: Final[dict[str, tuple[str, str]]] = {
    # titles
    "Movement": ("Mwendo", "Déplacements"),
    "Corridor effectiveness": ("Ufanisi wa shoroba", "Efficacité des corridors"),
    "Conflicts": ("Migogoro", "Conflits"),
    "Species distribution": ("Mtawanyiko wa spishi", "Répartition des espèces"),
    "Habitat quality": ("Ubora wa makazi", "Qualité de l'habitat"),
    # tables
    "Movement of each animal": ("Mwendo wa kila mnyama", "Déplacements par animal"),
    "Cells of 0.1 degree": ("Seli za nyuzi 0.1", "Mailles de 0,1 degré"),
    "By kind": ("Kwa aina", "Par genre"),
    "By zone": ("Kwa eneo", "Par zone"),
    "By day": ("Kwa siku", "Par jour"),
    "Use of corridors": ("Matumizi ya shoroba", "Usage des corridors"),
    "Alerts of leaving a corridor": ("Tahadhari za kutoka", "Alertes de sortie de corridor"),
    "Suitability where animals were": ("Ufaafu walipokuwa wanyama", "Aptitude des lieux fréquentés"),
    "About": ("Kuhusu", "À propos"),
    # columns
    "Animal": ("Mnyama", "Animal"),
    "Animals": ("Wanyama", "Animaux"),
    "Species": ("Spishi", "Espèce"),
    "Fixes": ("Mahali", "Positions"),
    "First": ("Ya kwanza", "Première"),
    "Last": ("Ya mwisho", "Dernière"),
    "Distance, km": ("Umbali, km", "Distance, km"),
    "Net, km": ("Umbali wa moja kwa moja, km", "À vol d'oiseau, km"),
    "Km a day": ("Km kwa siku", "Km par jour"),
    "Longest step, km": ("Hatua ndefu zaidi, km", "Pas le plus long, km"),
    "Latitude": ("Latitudo", "Latitude"),
    "Longitude": ("Longitudo", "Longitude"),
    "Alerts": ("Tahadhari", "Alertes"),
    "Acknowledged": ("Zilizoonwa", "Vues"),
    "Median minutes until acknowledged": ("Dakika za wastani hadi kuonwa", "Minutes médianes avant d'être vue"),
    "Kind": ("Aina", "Genre"),
    "Severity": ("Uzito", "Gravité"),
    "Status": ("Hali", "État"),
    "Zone": ("Eneo", "Zone"),
    "Day, UTC": ("Siku, UTC", "Jour, UTC"),
    "Corridor": ("Ushoroba", "Corridor"),
    "For": ("Kwa", "Pour"),
    "Used it": ("Walioutumia", "L'ont utilisé"),
    "Inside": ("Ndani", "Dedans"),
    "Inside, %": ("Ndani, %", "Dedans, %"),
    "Month": ("Mwezi", "Mois"),
    "Sampled": ("Sampuli", "Échantillon"),
    "On the maps": ("Kwenye ramani", "Sur les cartes"),
    "Mean suitability": ("Ufaafu wa wastani", "Aptitude moyenne"),
    "Lower quarter": ("Robo ya chini", "Premier quartile"),
    "Median": ("Wastani wa kati", "Médiane"),
    "Upper quarter": ("Robo ya juu", "Troisième quartile"),
    "Model": ("Modeli", "Modèle"),
    # sentences and single words
    "From {since} until {until}": ("Kuanzia {since} hadi {until}", "Du {since} au {until}"),
    "Of {species}": ("Kuhusu {species}", "Espèce : {species}"),
    "all species": ("spishi zote", "toutes"),
    "Made {at}": ("Imetengenezwa {at}", "Établi le {at}"),
    "Made of exact positions": ("Imetengenezwa kwa mahali kamili", "Établi à partir de positions exactes"),
    "Made of positions that are shown with reduced precision": (
        "Imetengenezwa kwa mahali pasipoonyeshwa kwa usahihi kamili",
        "Établi à partir de positions montrées avec une précision réduite",
    ),
    "Nothing in this period.": ("Hakuna kitu katika kipindi hiki.", "Rien pendant cette période."),
    "any": ("yoyote", "toutes"),
    "no zone named": ("eneo halikutajwa", "aucune zone nommée"),
}  # fmt: skip


def label(text: str, language: Language) -> str:
    """Return one of our own texts in a language."""
    return text if language == "en" else LABELS[text][0 if language == "sw" else 1]


def value(area: str, said: str, language: Language) -> str:
    """Return a value of the API as the pages say it, or itself where they have no word for it."""
    if said in LABELS:
        return label(said, language)
    return _strings(language).get(f"{area}.{said}", said)


@functools.cache
def _strings(language: Language) -> dict[str, str]:
    words: dict[str, str] = json.loads((_STRINGS / f"{language}.json").read_text(encoding="utf-8"))
    return words
