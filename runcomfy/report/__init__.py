"""The report: one self-contained HTML page of what was made, what it cost and how it went, made from the catalogue.

`options` is what a user may say, `reading` gets the rows, `figures` counts, `plots` says what is drawn and `drawing`
draws it, `posters` makes the images small, `links` says where the media is, `waiting` what needs a person, `page`
puts it together, `making` does all of it, and `serving` shows it on this machine.
"""
