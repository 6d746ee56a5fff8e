"""Recordings as a browser's user gets them: by id, over REST, with the login of a page."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from playwright.async_api import Page

from tests.helpers.system import until

Samples = npt.NDArray[np.int16]
RATE = 48_000


def decode(data: bytes) -> tuple[Samples, Samples]:
    """Left and right of an audio file, 48 kHz (a mono file gives the same twice)."""
    resampler = av.AudioResampler(format="s16p", layout="stereo", rate=RATE)
    planes: list[Samples] = []
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(audio=0):
            planes += [part.to_ndarray().astype(np.int16) for part in resampler.resample(frame)]
        planes += [part.to_ndarray().astype(np.int16) for part in resampler.resample(None)]
    both = np.concatenate(planes, axis=1)
    return both[0], both[1]


async def read_stereo(page: Page, recording_id: str) -> tuple[Samples, Samples, float]:
    """(left, right, seconds) of the stereo rendering."""
    path = f"/api/v1/recordings/{recording_id}/audio?side=stereo"
    origin = "/".join(page.url.split("/")[:3])

    async def fetched() -> Any:
        response = await page.request.get(origin + path)
        assert response.status in (200, 202), await response.text()
        return await response.body() if response.status == 200 else None

    left, right = decode(await until(fetched, 20, "the stereo rendering"))
    return left, right, len(left) / RATE
