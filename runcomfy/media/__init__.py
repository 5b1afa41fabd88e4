"""What a file is, and whether it is good: images before they are sent, and what was made before it is archived.

`images` and `image_files` judge an input. `kinds` tells from the first bytes what an output is, `probe` and `mp4` what
is in it, `quality` what speaks against it and `validation` whether it is what was asked for. `marking` writes into a
file that it is generated, and `poster` draws the image that pages show.
"""
