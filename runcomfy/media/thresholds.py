"""What counts as black, frozen, silent and so on, and from where on a file is suspect; see `docs/archive.md`."""

from __future__ import annotations

__all__ = ["DETECTED", "SUSPECT"]

DETECTED: dict[str, float] = {
    "black_pixel_share": 0.98,
    "black_luma_share": 0.05,
    "black_min_seconds": 0.1,
    "frozen_difference_share": 0.0003,
    "frozen_min_seconds": 1.0,
    "edge_low_share": 0.06,
    "edge_high_share": 0.12,
    "blur_width_pixels": 12.0,
    "scene_cut_score": 12.0,
    "silence_dbfs": -60.0,
    "silence_min_seconds": 0.5,
    "full_scale_dbfs": -0.5,
}
"""What FFmpeg's filters are set to. Shares are of the whole range or of all pixels; `blur_width_pixels` is the mean
width of edges in a copy that is 320 pixels wide, and a frame without an edge is blurred as well; samples from
`full_scale_dbfs` on count as clipped; `scene_cut_score` is that of `scdet`, 0 to 100."""

SUSPECT: dict[str, float] = {
    "black_share": 0.3,
    "frozen_share": 0.3,
    "blurred_share": 0.7,
    "silent_share": 0.5,
    "clipped_share": 0.05,
    "min_seconds": 1.0,
}
"""From where on a file is suspect: shares of its length, or of its samples. What is black, frozen or blurred for less
than `min_seconds` is not, unless that is all of the video."""
