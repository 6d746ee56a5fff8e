"""PURE: how good speech sounds, as the E-model estimates it. For watching, not for planning.

ITU-T G.107 (06/2015) with its default values, reduced to what a relay can know: R = 93.2 - Id - Ie,eff (clause 7.1;
93.2 is Ro - Is of the defaults; A = 0). Id as in Cole and Rosenbluth, "Voice over IP Performance Monitoring" (2001),
section 4, their fit of G.107's delay impairment without echo. Ie,eff = Ie + (95 - Ie) x Ppl / (Ppl + Bpl) for random
loss (G.107, equation 7-29, BurstR = 1). MOS from R by G.107, Annex B.
"""

from __future__ import annotations

R_DEFAULT = 93.2
PACKET_MS = 20.0
JITTERS = 2.0  # a jitter buffer that holds so many times the mean deviation loses little; NetEQ's targets are near it
IE, BPL = 0.0, 25.1  # G.711 with concealment of lost packets: G.113 (11/2007), tables I.1 and I.4, random loss
# Opus and G.722 have no published values on this scale: they count as G.711 with concealment. Opus with its in-band
# FEC does better than that under loss, so their estimates err to the worse.


def mos(loss: float, delay_ms: float) -> float:
    """1 (bad) to 4.41 of listening and talking. `loss`: of packets, 0 to 1; `delay_ms`: mouth to ear, one way."""
    return _mos(r_factor(loss, delay_ms))


def r_factor(loss: float, delay_ms: float) -> float:
    """G.107's R; at most 93.2, and below 0 for what can't be used."""
    percent = 100 * min(1.0, max(0.0, loss))
    delay = max(0.0, delay_ms)
    impaired = IE + (95 - IE) * percent / (percent + BPL)
    return R_DEFAULT - 0.024 * delay - 0.11 * max(0.0, delay - 177.3) - impaired


def one_way_ms(rtt_ms: float | None, jitter_ms: float) -> float:
    """Mouth to ear over one leg: half of the round trip, a packet, and the jitter buffer. An unknown way counts 0."""
    return (rtt_ms or 0.0) / 2 + PACKET_MS + max(PACKET_MS, JITTERS * jitter_ms)


def _mos(r: float) -> float:
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)  # the cubic dips below 1 under R = 6.5
