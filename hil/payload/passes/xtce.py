"""Telemetry and commands as XTCE (CCSDS 660.0-B-2), for ground systems."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as xml

from hil.atomic import write_text
from hil.payload.passes.commands import CHIP_MESSAGE, HOUSEKEEPING_FIELDS, TAKE_PROGRAM, TAKE_UPDATE

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
FUNCTION_CALL, ARE_YOU_THERE = (8, 1), (17, 1)
COMMANDS: dict[str, tuple[int, int, int | None]] = {
    "AreYouThere": (*ARE_YOU_THERE, None),
    "TakeProgram": (*FUNCTION_CALL, TAKE_PROGRAM),
    "TakeUpdate": (*FUNCTION_CALL, TAKE_UPDATE),
    "ChipMessage": (*FUNCTION_CALL, CHIP_MESSAGE),
}
"""Service, subservice and number of the function of each command."""
PUS_VERSION, ACKNOWLEDGE = 2, 0b1111
TC_SECONDARY = (("PUS_VERSION", 4), ("ACKNOWLEDGE", 4), ("SERVICE", 8), ("SUBSERVICE", 8), ("SOURCE", 16))
CONTENT_LESS = 7  # bytes by which the content of a function call is shorter than PKT_LEN says


def write_xtce(path: str | Path) -> None:
    """Write the definitions whole or not at all."""
    write_text(path, xtce_text())


def xtce_text() -> str:
    """All packets of ``hil.payload.passes.commands``: telemetry, commands to send, and commands that are read back."""
    xml.register_namespace("xtce", NAMESPACE)
    system = _element(None, "SpaceSystem", name="hil")
    _element(system, "Header", date="2000-01-01T00:00:00", version="1.0", validationStatus="Working")
    telemetry = _element(system, "TelemetryMetaData")
    types = _element(telemetry, "ParameterTypeSet")
    named = _element(telemetry, "ParameterSet")
    fields = [*HEADER, *SECONDARY, *TC_SECONDARY, *CHECKSUM, *(f for _, _, own in PACKETS.values() for f in own)]
    for name, bits in dict(fields).items():
        kind = _element(types, "IntegerParameterType", name=f"{name}_TYPE", signed=str(name in SIGNED).lower())
        coding = "twosComplement" if name in SIGNED else "unsigned"
        _element(kind, "IntegerDataEncoding", sizeInBits=str(bits), encoding=coding)
        _element(named, "Parameter", name=name, parameterTypeRef=f"{name}_TYPE")
    _binary(
        _element(types, "BinaryParameterType", name="CONTENT_TYPE"),
        parameter="PKT_LEN",
        slope=8,
        intercept=-8 * CONTENT_LESS,
    )
    _element(named, "Parameter", name="CONTENT", parameterTypeRef="CONTENT_TYPE")
    containers = _element(telemetry, "ContainerSet")
    _container(containers, ROOT, HEADER, abstract=True)
    _container(containers, "PusTelemetry", SECONDARY, base=ROOT, when={"TYPE": 0, "SEC_HDR_FLG": 1}, abstract=True)
    for name, (service, subservice, own) in PACKETS.items():
        when = {"SERVICE": service, "SUBSERVICE": subservice}
        _container(containers, name, (*own, *CHECKSUM), base="PusTelemetry", when=when)
    _command_echoes(containers)
    _commands(system)
    xml.indent(system)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(system, encoding="unicode") + "\n"


def _commands(system: xml.Element) -> None:
    """Commands for a ground system that sends them: fixed service, subservice and function, then the content."""
    commands = _element(system, "CommandMetaData")
    types = _element(commands, "ArgumentTypeSet")
    _binary(_element(types, "BinaryArgumentType", name="CONTENT_TYPE"), argument="CONTENT_BYTES", slope=8, intercept=0)
    count = _element(types, "IntegerArgumentType", name="CONTENT_BYTES_TYPE", signed="false")
    _element(count, "IntegerDataEncoding", sizeInBits="16", encoding="unsigned")
    metas = _element(commands, "MetaCommandSet")
    for name, (service, subservice, function) in COMMANDS.items():
        words = f"TC {service},{subservice}" + ("" if function is None else f", function {function}")
        meta = _element(metas, "MetaCommand", name=name, shortDescription=words)
        if function is not None:
            arguments = _element(meta, "ArgumentList")
            for argument in ("CONTENT_BYTES", "CONTENT"):
                _element(arguments, "Argument", name=argument, argumentTypeRef=f"{argument}_TYPE")
        container = _element(meta, "CommandContainer", name=f"{name}Packet")
        entries = _element(container, "EntryList")
        fixed = bytes([PUS_VERSION << 4 | ACKNOWLEDGE, service, subservice, 0, 0])
        fixed += b"" if function is None else bytes([function])
        _element(entries, "FixedValueEntry", name="FIXED", binaryValue=fixed.hex(), sizeInBits=str(8 * len(fixed)))
        if function is not None:
            _element(entries, "ArgumentRefEntry", argumentRef="CONTENT")


def _command_echoes(containers: xml.Element) -> None:
    """The same commands as packets that are read: echoes and logs of what was sent."""
    _container(containers, "PusTelecommand", TC_SECONDARY, base=ROOT, when={"TYPE": 1, "SEC_HDR_FLG": 1}, abstract=True)
    functions = {"SERVICE": FUNCTION_CALL[0], "SUBSERVICE": FUNCTION_CALL[1]}
    _container(containers, "FunctionCall", (("FUNCTION", 8),), base="PusTelecommand", when=functions, abstract=True)
    for name, (service, subservice, function) in COMMANDS.items():
        if function is None:
            when = {"SERVICE": service, "SUBSERVICE": subservice}
            _container(containers, name, CHECKSUM, base="PusTelecommand", when=when)
        else:
            own = (("CONTENT", 0), *CHECKSUM)
            _container(containers, name, own, base="FunctionCall", when={"FUNCTION": function})


def _binary(kind: xml.Element, *, slope: int, intercept: int, parameter: str = "", argument: str = "") -> None:
    """Bytes whose number another value gives."""
    coding = _element(kind, "BinaryDataEncoding", bitOrder="mostSignificantBitFirst")
    dynamic = _element(_element(coding, "SizeInBits"), "DynamicValue")
    if parameter:
        _element(dynamic, "ParameterInstanceRef", parameterRef=parameter)
    else:
        _element(dynamic, "ArgumentInstanceRef", argumentRef=argument)
    _element(dynamic, "LinearAdjustment", slope=str(slope), intercept=str(intercept))


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
