"""Telemetry and commands as XTCE (CCSDS 660.0-B-2), for ground systems."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as xml

from hil.atomic import write_text
from hil.mission.passes.commands import CHIP_MESSAGE, HOUSEKEEPING_FIELDS, TAKE_PROGRAM, TAKE_UPDATE

NAMESPACE = "http://www.omg.org/spec/XTCE/20180204"
ROOT = "CCSDSPacket"
HEADER = (
    ("VERSION", 3),
    ("TYPE", 1),
    ("SEC_HDR_FLG", 1),
    ("PKT_APID", 11),
    ("SEQ_FLGS", 2),
    ("SRC_SEQ_CTR", 14),
    ("PKT_LEN", 16),
)
SECONDARY = (
    ("PUS_VERSION", 4),
    ("TIME_REFERENCE", 4),
    ("SERVICE", 8),
    ("SUBSERVICE", 8),
    ("MESSAGE_COUNTER", 16),
    ("DESTINATION", 16),
    ("TIME_S", 32),
)
REQUEST = (("REQUEST_ID", 32),)
FAILURE = (("REASON", 8),)
CHECKSUM = (("CHECKSUM", 16),)
PACKETS: dict[str, tuple[int, int, tuple[tuple[str, int], ...]]] = {
    "AcceptanceSuccess": (1, 1, REQUEST),
    "AcceptanceFailure": (1, 2, (*REQUEST, *FAILURE)),
    "CompletionSuccess": (1, 7, REQUEST),
    "CompletionFailure": (1, 8, (*REQUEST, *FAILURE)),
    "Housekeeping": (3, 25, tuple((name, bits) for name, bits, _ in HOUSEKEEPING_FIELDS)),
    "Refused": (5, 3, (("FUNCTION", 8), *FAILURE)),
    "ConnectionTest": (17, 2, ()),
}
SIGNED = frozenset(name for name, _, signed in HOUSEKEEPING_FIELDS if signed)
FUNCTIONS = {"TakeProgram": TAKE_PROGRAM, "TakeUpdate": TAKE_UPDATE, "ChipMessage": CHIP_MESSAGE}


def write_xtce(path: str | Path) -> None:
    """Write the definitions whole or not at all."""
    write_text(path, xtce_text())


def xtce_text() -> str:
    """All packets of ``hil.mission.passes.commands``."""
    xml.register_namespace("xtce", NAMESPACE)
    system = _element(None, "SpaceSystem", name="hil")
    _element(system, "Header", date="2000-01-01T00:00:00", version="1.0", validationStatus="Working")
    telemetry = _element(system, "TelemetryMetaData")
    types = _element(telemetry, "ParameterTypeSet")
    named = _element(telemetry, "ParameterSet")
    fields = [*HEADER, *SECONDARY, *CHECKSUM, *(f for _, _, own in PACKETS.values() for f in own)]
    for name, bits in dict(fields).items():
        kind = _element(types, "IntegerParameterType", name=f"{name}_TYPE", signed=str(name in SIGNED).lower())
        coding = "twosComplement" if name in SIGNED else "unsigned"
        _element(kind, "IntegerDataEncoding", sizeInBits=str(bits), encoding=coding)
        _element(named, "Parameter", name=name, parameterTypeRef=f"{name}_TYPE")
    containers = _element(telemetry, "ContainerSet")
    _container(containers, ROOT, HEADER, abstract=True)
    _container(containers, "PusTelemetry", SECONDARY, base=ROOT, when={"SEC_HDR_FLG": 1}, abstract=True)
    for name, (service, subservice, own) in PACKETS.items():
        when = {"SERVICE": service, "SUBSERVICE": subservice}
        _container(containers, name, (*own, *CHECKSUM), base="PusTelemetry", when=when)
    _commands(system)
    xml.indent(system)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(system, encoding="unicode") + "\n"


def _commands(system: xml.Element) -> None:
    commands = _element(system, "CommandMetaData")
    types = _element(commands, "ArgumentTypeSet")
    content = _element(types, "BinaryArgumentType", name="CONTENT_TYPE")
    coding = _element(content, "BinaryDataEncoding", bitOrder="mostSignificantBitFirst")
    size = _element(coding, "SizeInBits")
    _element(size, "FixedValue").text = "8"
    metas = _element(commands, "MetaCommandSet")
    ping = _element(metas, "MetaCommand", name="AreYouThere")
    ping.set("shortDescription", "TC 17,1")
    for name, number in FUNCTIONS.items():
        meta = _element(metas, "MetaCommand", name=name, shortDescription=f"TC 8,1, function {number}")
        arguments = _element(meta, "ArgumentList")
        _element(arguments, "Argument", name="CONTENT", argumentTypeRef="CONTENT_TYPE")


def _container(
    parent: xml.Element,
    name: str,
    fields: tuple[tuple[str, int], ...],
    *,
    base: str = "",
    when: dict[str, int] | None = None,
    abstract: bool = False,
) -> None:
    container = _element(parent, "SequenceContainer", name=name, abstract=str(abstract).lower())
    entries = _element(container, "EntryList")
    for field, _ in fields:
        _element(entries, "ParameterRefEntry", parameterRef=field)
    if base:
        above = _element(container, "BaseContainer", containerRef=base)
        criteria = _element(above, "RestrictionCriteria")
        listed = _element(criteria, "ComparisonList")
        for parameter, value in (when or {}).items():
            _element(listed, "Comparison", parameterRef=parameter, value=str(value))


def _element(parent: xml.Element | None, tag: str, **attributes: str) -> xml.Element:
    full = f"{{{NAMESPACE}}}{tag}"
    return xml.Element(full, attributes) if parent is None else xml.SubElement(parent, full, attributes)
