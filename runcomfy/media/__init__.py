"""What a file is, and whether it is good: images before they are sent, and outputs before they are archived.

`images` and `image_files` check an input: `image_parts` leaves out what is not pixels (of a PNG: `png_parts`), `tiff`
reads EXIF, `converting` makes a JPEG of an AVIF or HEIC, and `not_images` says what a file is that is no image. `kinds`
finds from the first bytes what an output is, `probe` and `mp4` what is in it, `quality` what is wrong with it, and
`validation` whether it is what was asked for. `marking`, with `mark_places`, writes into a file that it is generated,
`poster` makes the image that pages show, and `waveform` that of a sound.

`decoding` has every frame of an output decoded by another process, which `isolation` bounds from the inside, and
`decoder_answer` reads what that says: `motion_decoding` does it for videos and sounds, with the `detectors`, and
`still_decoding` for images; `contact_sheet` puts nine frames into one image. `verdict` makes good, suspect or damaged
of it, by the `thresholds`.
"""
