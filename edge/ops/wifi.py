"""The post's own Wi-Fi: a NetworkManager keyfile for a network to make or to join, and the QR that phones scan.

Source: nm-settings-keyfile(5), sections connection, wifi, wifi-security, ipv4; the QR text is the one that Android and
iOS read (``WIFI:T:WPA;S:...;P:...;;``). ``ipv4.method=shared`` lets NetworkManager give out addresses and answer names.
"""

from __future__ import annotations

import re
import uuid
from typing import Final, Literal

import msgspec
import segno

from shared.errors import Invalid

#: The address of the station on its own network, and the network that it gives out.
ADDRESS: Final = "10.42.0.1"
_PASSPHRASE: Final = range(8, 64)
_SSID_BYTES: Final = 32
_SPECIAL: Final = re.compile(r'([\\;,":])')
_NAMESPACE: Final = uuid.UUID("6f1c5b0e-6a86-4a39-8f2e-0b8a8d6c7f11")

Security = Literal["wpa2", "wpa3"]


class Wifi(msgspec.Struct, frozen=True, kw_only=True):
    """A network: ``is_own`` says that the station makes it, else it joins it. WPA3 needs phones of 2019 or later."""

    ssid: str
    passphrase: str
    is_own: bool = True
    security: Security = "wpa2"
    interface: str = "wlan0"
    channel: int = 6


def checked(wifi: Wifi) -> Wifi:
    """Return ``wifi`` if a network can be called and keyed like that; raises Invalid."""
    if not 1 <= len(wifi.ssid.encode()) <= _SSID_BYTES or not wifi.ssid.isprintable():
        raise Invalid("the name of a Wi-Fi has 1 to 32 bytes, printable")
    if wifi.ssid != wifi.ssid.strip() or set(wifi.ssid) & set(";\\"):  # NetworkManager's own forms of these differ
        raise Invalid("this name of a Wi-Fi begins or ends with a space or holds ; or \\: make its profile with nmcli")
    if len(wifi.passphrase) not in _PASSPHRASE or not (wifi.passphrase.isascii() and wifi.passphrase.isprintable()):
        raise Invalid("the password of a Wi-Fi has 8 to 63 letters, digits and signs of ASCII")
    return wifi


def keyfile(wifi: Wifi) -> str:
    """Return the text of the profile; it belongs to root alone, because it holds the password."""
    lines = [
        "[connection]", f"id=outpost-{'own' if wifi.is_own else 'joined'}",
        f"uuid={uuid.uuid5(_NAMESPACE, f'{wifi.is_own} {wifi.ssid}')}", "type=wifi",
        f"interface-name={wifi.interface}", "autoconnect=true", "autoconnect-retries=0", "",
        "[wifi]", f"mode={'ap' if wifi.is_own else 'infrastructure'}", f"ssid={_ssid(wifi.ssid)}",
    ]  # fmt: skip
    if wifi.is_own:
        lines += ["band=bg", f"channel={wifi.channel}", "powersave=2"]
    lines += ["", "[wifi-security]", f"key-mgmt={'sae' if wifi.security == 'wpa3' else 'wpa-psk'}"]
    if wifi.is_own or wifi.security == "wpa3":  # never TKIP, and frames of management protected where phones can
        lines += ["proto=rsn;", "pairwise=ccmp;", "group=ccmp;", f"pmf={3 if wifi.security == 'wpa3' else 2}"]
    lines += [f"psk={_escaped(wifi.passphrase)}", "", "[ipv4]"]
    lines += ["method=shared", f"address1={ADDRESS}/24"] if wifi.is_own else ["method=auto"]
    lines += ["", "[ipv6]", "method=link-local" if wifi.is_own else "method=auto", ""]
    return "\n".join(lines)


def qr_text(wifi: Wifi) -> str:
    """Return what the QR of a network says."""
    kind = "SAE" if wifi.security == "wpa3" else "WPA"
    name, word = (_SPECIAL.sub(r"\\\1", each) for each in (wifi.ssid, wifi.passphrase))
    return f"WIFI:T:{kind};S:{name};P:{word};;"


def qr_lines(text: str) -> str:
    """Return a QR as a terminal and a printer show it: two rows of dots a line of text."""
    matrix = [[False] * 4 + [bool(dot) for dot in row] + [False] * 4 for row in segno.make(text, micro=False).matrix]
    blank = [False] * len(matrix[0])
    rows = [blank, blank, *matrix, blank, blank, blank]
    lines = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=False):
        lines.append("".join(_BLOCK[above, below] for above, below in zip(upper, lower, strict=True)))
    return "\n".join(lines)


#: Dark on light: the paper is the light, so a dark dot is ink.
_BLOCK: Final = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def _ssid(name: str) -> str:
    """Return a name as it stands there: text of ASCII, else its bytes as numbers."""
    return name if name.isascii() else "".join(f"{byte};" for byte in name.encode())


def _escaped(text: str) -> str:
    """Escape what a keyfile would read otherwise: backslashes, and a space at the beginning."""
    return re.sub(r"^ ", r"\\s", text.replace("\\", "\\\\"))
