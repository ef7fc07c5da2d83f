"""Captures of datagrams as files that Wireshark and tcpdump open: pcap with made-up IP headers.

Written is LINKTYPE_RAW with microseconds: each packet begins with its IPv4 or IPv6 header. Read is
also what tcpdump writes on Linux (Ethernet, both forms of "any"), in either byte order and with
nanoseconds. Format: draft-ietf-opsawg-pcap; link types: https://www.tcpdump.org/linktypes.html.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from core import endpoint
from core.endpoint import Endpoint

MAX_PAYLOAD = 65_507  # bytes: an IPv4 packet, less its header of 20 and UDP's of 8
SNAP_LENGTH = 65_575  # bytes of a record: an IPv6 header and as much as UDP can say
MAX_RECORD = 262_144  # the greatest snapshot length that tcpdump takes: MAXIMUM_SNAPLEN

_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_FILE_HEADER_SIZE, _RECORD_HEADER_SIZE = 24, 16
_LINKTYPE_RAW = 101
_HEADS = {  # link type: bytes in front of IP, and where of them the EtherType stands, or None
    _LINKTYPE_RAW: (0, None),
    1: (14, 12),  # LINKTYPE_ETHERNET
    113: (16, 14),  # LINKTYPE_LINUX_SLL: tcpdump -i any, before libpcap 1.10
    276: (20, 0),  # LINKTYPE_LINUX_SLL2
}
_ETHERTYPES = (0x0800, 0x86DD)  # IPv4, IPv6
_UDP = 17
_HOPS = 64  # what a header of ours says; nothing ever routes it


class PcapError(Exception):
    """The file is no capture that can be read: why, and at which byte."""

    def __init__(self, text: str, at: int = 0) -> None:
        super().__init__(f"{text} (byte {at:,})")
        self.at = at


class Captured(NamedTuple):
    """One datagram of a capture."""

    time: float  # unix seconds
    source: Endpoint
    destination: Endpoint
    payload: bytes


def write(file: BinaryIO, packets: Iterable[tuple[float, Endpoint, Endpoint, bytes]]) -> int:
    """Writes datagrams (unix time, source, destination, payload) as they come; returns how many.

    ValueError for a payload that is too long, or addresses of two families.
    """
    file.write(struct.pack("<IHHiIII", _MICROSECONDS, 2, 4, 0, 0, SNAP_LENGTH, _LINKTYPE_RAW))
    count = 0
    for time, source, destination, payload in packets:
        packet = build(source, destination, payload)
        micros = round(time * 1_000_000)
        seconds, rest = divmod(micros, 1_000_000)
        size = len(packet)
        file.write(struct.pack("<IIII", seconds & 0xFFFFFFFF, rest, size, size) + packet)
        count += 1
    return count


def build(source: Endpoint, destination: Endpoint, payload: bytes) -> bytes:
    """Returns a datagram with the UDP and IP headers it might have had, checksums included."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a datagram has at most {MAX_PAYLOAD:,} bytes, not {len(payload):,}")
    if endpoint.is_ipv4(source) != endpoint.is_ipv4(destination):
        raise ValueError("source and destination have addresses of two families")
    size = 8 + len(payload)
    from_ip, to_ip = endpoint.ip_of(source), endpoint.ip_of(destination)
    ports = struct.pack("!HHH", endpoint.port_of(source), endpoint.port_of(destination), size)
    pseudo = from_ip + to_ip + struct.pack("!II", size, _UDP)  # RFC 768 and RFC 8200, 8.1
    checksum = _checksum(pseudo + ports + b"\0\0" + payload) or 0xFFFF  # 0 would say: none
    udp = ports + struct.pack("!H", checksum) + payload
    if not endpoint.is_ipv4(source):
        return struct.pack("!IHBB", 6 << 28, size, _UDP, _HOPS) + from_ip + to_ip + udp
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, _HOPS, _UDP, 0)
    head += from_ip + to_ip
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + udp


def _checksum(data: bytes) -> int:
    """Returns the Internet checksum (RFC 1071): 16 bits."""
    if len(data) % 2:
        data += b"\0"
    # the sum of 16-bit words with the carry brought around is the number modulo 0xffff
    total = int.from_bytes(data, "big") % 0xFFFF
    return (0xFFFF - total) % 0xFFFF if any(data) else 0xFFFF


class Reader:
    """The datagrams of a capture, one after the other; `passed_over` counts what was none."""

    def __init__(self, file: BinaryIO) -> None:
        """Reads the head of the file. Raises PcapError."""
        self._file = file
        head = file.read(_FILE_HEADER_SIZE)
        if head[:4] == _PCAPNG:
            raise PcapError("this is pcapng; make a pcap of it with: editcap -F pcap FILE NEW")
        if len(head) < _FILE_HEADER_SIZE:
            raise PcapError(f"a capture begins with {_FILE_HEADER_SIZE} bytes", len(head))
        for order in "<>":
            (magic,) = struct.unpack(order + "I", head[:4])
            if magic in (_MICROSECONDS, _NANOSECONDS):
                break
        else:
            raise PcapError("this is no pcap file")
        self._order = order
        self._unit = 1e-9 if magic == _NANOSECONDS else 1e-6
        link = struct.unpack(order + "I", head[20:])[0] & 0xFFFF
        if link not in _HEADS:
            known = ", ".join(map(str, _HEADS))
            raise PcapError(f"link type {link} is not read, only {known}", 20)
        self._skip, self._ethertype_at = _HEADS[link]
        self._at = _FILE_HEADER_SIZE
        self.passed_over = 0
        """Packets that were not whole UDP datagrams: other protocols, fragments, cut ones."""

    def __iter__(self) -> Iterator[Captured]:
        """Yields the datagrams. Raises PcapError where the file ends too early or is damaged."""
        while True:
            head = self._file.read(_RECORD_HEADER_SIZE)
            if not head:
                return
            if len(head) < _RECORD_HEADER_SIZE:
                raise PcapError("the file ends inside a record's head", self._at)
            seconds, rest, size, whole = struct.unpack(self._order + "IIII", head)
            if size > MAX_RECORD:
                raise PcapError(f"a record of {size:,} bytes, more than {MAX_RECORD:,}", self._at)
            data = self._file.read(size)
            if len(data) < size:
                raise PcapError("the file ends inside a record", self._at)
            self._at += _RECORD_HEADER_SIZE + size
            found = self._datagram(data) if size == whole else None
            if found is None:
                self.passed_over += 1
            else:
                yield Captured(seconds + rest * self._unit, *found)

    def _datagram(self, data: bytes) -> tuple[Endpoint, Endpoint, bytes] | None:
        if self._ethertype_at is not None:
            kind = int.from_bytes(data[self._ethertype_at : self._ethertype_at + 2], "big")
            if kind not in _ETHERTYPES:
                return None
        return open_ip(data[self._skip :])


def open_ip(packet: bytes) -> tuple[Endpoint, Endpoint, bytes] | None:
    """Returns source, destination and payload of an IP packet; None if it is no whole datagram."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        size = (packet[0] & 15) * 4
        (length,) = struct.unpack_from("!H", packet, 2)
        fragment = struct.unpack_from("!H", packet, 6)[0] & 0x3FFF  # more to come, or an offset
        if packet[9] != _UDP or fragment or size < 20:
            return None
        addresses, udp = (packet[12:16], packet[16:20]), packet[size:length]
    elif version == 6 and len(packet) >= 40:
        (length,) = struct.unpack_from("!H", packet, 4)
        if packet[6] != _UDP:
            return None
        addresses, udp = (packet[8:24], packet[24:40]), packet[40 : 40 + length]
    else:
        return None
    if len(udp) < 8:
        return None
    from_port, to_port, size = struct.unpack_from("!HHH", udp)
    if not 8 <= size <= len(udp):
        return None
    make = endpoint.udp4 if version == 4 else endpoint.udp6
    return make(addresses[0], from_port), make(addresses[1], to_port), udp[8:size]
