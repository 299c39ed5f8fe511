"""Packets of a live stream put in order: late ones are waited for, repeated ones are left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from .packet import LivePacket


@dataclass
class JitterBuffer:
    """Packets that came and are not played yet; a stream begins with the first that comes."""

    next_frame: int | None = None
    """The latent frame that is to be played next; None until something comes."""
    waiting: dict[int, LivePacket] = field(default_factory=dict)
    """Packets by their first latent frame."""

    def push(self, packet: LivePacket) -> bool:
        """Queue a packet; False when it is left out, since it came twice or too late."""
        if self.next_frame is None:
            self.next_frame = packet.start
        if packet.start < self.next_frame or packet.start in self.waiting:
            return False
        self.waiting[packet.start] = packet
        return True

    def pop(self, most: int) -> LivePacket | int | None:
        """What is to be played next: a packet, or so many latent frames that are lost, or None to wait.

        Args:
            most: packets that may wait before a missing one counts as lost.
        """
        if self.next_frame is None or not self.waiting:
            return None
        packet = self.waiting.pop(self.next_frame, None)
        if packet is not None:
            self.next_frame += packet.frames
            return packet
        if len(self.waiting) <= most:
            return None
        gap = min(self.waiting) - self.next_frame
        self.next_frame += gap
        return gap
